//! Tells Cargo that the migrations are part of the program: they are embedded at build time.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}

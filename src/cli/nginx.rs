//! `switchboard nginx`: works for the Nginx balancer in front of the nodes.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Subcommand;

use super::{CliError, Globals};
use crate::edge::nginx::{Layout, render};

/// The arguments of `switchboard nginx`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a complete nginx.conf made of the config's [edge] section
    Render(RenderArgs),
}

#[derive(Debug, clap::Args)]
struct RenderArgs {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep Nginx's pid file and error log in this folder, instead of /run and /var/log/nginx
    #[arg(long, value_name = "DIR")]
    prefix: Option<String>,
    /// Load the stream module from this path, instead of including what Debian has enabled
    #[arg(long, value_name = "PATH")]
    load_module: Option<String>,
}

/// Runs `switchboard nginx`.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    match args.command {
        Command::Render(args) => write_conf(args, globals),
    }
}

fn write_conf(args: RenderArgs, globals: &Globals) -> Result<(), CliError> {
    let config = globals.load_config()?;
    let prefix = args.prefix.map(|folder| absolute(&folder)).transpose()?;
    let conf = render(&config.edge, &Layout { prefix, load_module: args.load_module });
    match args.output {
        Some(path) => std::fs::write(&path, conf).map_err(|e| {
            CliError::failed_by(format!("cannot write {}; create its folder or choose another", path.display()), e)
        }),
        None => match std::io::stdout().write_all(conf.as_bytes()) {
            // The reader of a pipe has seen enough.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|e| CliError::failed_by("cannot write to standard output", e)),
        },
    }
}

/// Nginx would look for a relative folder under its own prefix.
fn absolute(folder: &str) -> Result<String, CliError> {
    let path = std::path::absolute(folder)
        .map_err(|e| CliError::failed_by(format!("--prefix {folder:?}: cannot tell where that is"), e))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| CliError::Usage(format!("--prefix: {} is not UTF-8; choose another folder", path.display())))
}

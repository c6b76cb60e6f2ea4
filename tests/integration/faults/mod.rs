//! Real programs that are stopped, killed and broken while users talk through them.

mod drain;

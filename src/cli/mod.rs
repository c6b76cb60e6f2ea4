//! One file per subcommand.

pub mod chat;
pub mod replay;

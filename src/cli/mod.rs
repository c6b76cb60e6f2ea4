//! The command line: one file per subcommand, each with its `Args` and a `run`.

pub mod bench;
pub mod chat;
pub mod doctor;
pub mod drain;
mod error;
pub mod nginx;
mod question;
pub mod replay;
mod say;
pub mod serve;
pub mod up;
pub mod user;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use error::CliError;

use crate::config::{Config, ConfigError, Overrides};
use crate::telemetry::LogFormat;

/// A chat cluster whose inter-node message bus is pluggable.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every subcommand understands.
#[derive(Debug, Clone, clap::Args)]
pub struct Globals {
    /// The config file (TOML); without it the defaults hold
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The broker between the nodes, instead of the config's bus.kind
    #[arg(long, global = true, value_name = "KIND")]
    pub bus: Option<String>,
    /// How log lines on standard error look
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a two-node cluster in this process and shows that it works (the default)
    Up(up::Args),
    /// Runs one node until it is told to stop
    Serve(serve::Args),
    /// Talks to a cluster from a terminal or a script
    Chat(chat::ChatArgs),
    /// Plays a chat log through a cluster and checks that everybody received everything
    Replay(replay::ReplayArgs),
    /// Measures brokers
    Bench(bench::Args),
    /// Works for the Nginx balancer in front of the nodes
    Nginx(nginx::Args),
    /// Checks what a node needs: config, database, bus, ports and limits
    Doctor(doctor::Args),
    /// Lists and changes accounts
    User(user::Args),
    /// Has a node send its sessions to the other nodes and end
    Drain(drain::Args),
}

impl Globals {
    /// Reads the config that these flags and the environment ask for.
    pub fn load_config(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.overrides())
    }

    /// Returns what these flags say about the config; a subcommand may add its own.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("--bus", "bus.kind", self.bus.clone())
    }
}

impl Cli {
    /// Returns how log lines shall look.
    pub fn log_format(&self) -> LogFormat {
        self.globals.log_format
    }

    /// Runs the subcommand.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command.unwrap_or(Command::Up(up::Args::default())) {
            Command::Up(args) => up::run(args, &self.globals).await,
            Command::Serve(args) => serve::run(args, &self.globals).await,
            Command::Chat(args) => Ok(chat::run(args).await?),
            Command::Replay(args) => Ok(replay::run(args).await?),
            Command::Bench(args) => bench::run(args, &self.globals).await,
            Command::Nginx(args) => nginx::run(args, &self.globals).await,
            Command::Doctor(args) => doctor::run(args, &self.globals).await,
            Command::User(args) => user::run(args, &self.globals).await,
            Command::Drain(args) => drain::run(args, &self.globals).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_subcommand() {
        for line in [
            ["switchboard", "--bus", "memory", "nginx", "render"],
            ["switchboard", "nginx", "render", "--bus", "memory"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.globals.bus.as_deref(), Some("memory"));
        }
    }
}

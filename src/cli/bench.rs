//! `switchboard bench`: measures.

use clap::Subcommand;
use clap::builder::RangedU64ValueParser;

use super::{CliError, Globals};
use crate::bench::bus::{self, Plan};

/// The arguments of `switchboard bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures a bus against the client library of its broker, which must run
    Bus(BusArgs),
}

#[derive(Debug, clap::Args)]
struct BusArgs {
    /// How many tasks publish at once
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    publishers: u64,
    /// How many messages each of them publishes in one call
    #[arg(long, default_value_t = 32, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_024))]
    batch: u64,
    /// The size of a message in bytes
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<u64>::new().range(1..=500_000))]
    payload: u64,
    /// How many messages a round has
    #[arg(long, default_value_t = 100_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    messages: u64,
    /// How many rounds are counted, of each kind; one more comes before them
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000))]
    rounds: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Measures and prints what came of it.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    match args.command {
        Command::Bus(args) => {
            let config = globals.load_config()?;
            let plan = Plan {
                publishers: args.publishers as usize,
                batch: args.batch as usize,
                payload: args.payload as usize,
                messages: args.messages,
                rounds: args.rounds as usize,
            };
            let report = bus::run(&config.bus, &plan).await?;
            if args.json {
                let json = serde_json::to_string_pretty(&report)
                    .map_err(|error| CliError::failed_by("the report cannot be written as JSON", error))?;
                println!("{json}");
            } else {
                print!("{report}");
            }
            Ok(())
        }
    }
}

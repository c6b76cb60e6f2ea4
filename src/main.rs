//! The `switchboard` program.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use switchboard::cli::{Cli, CliError};
use switchboard::telemetry;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
            return if e.print().is_ok() { code } else { ExitCode::FAILURE };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            report(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    telemetry::init_log(cli.log_format())?;
    // Every client is a descriptor.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::failed_by("cannot start the runtime", e))?;
    let outcome = runtime.block_on(cli.run());
    // A read of the terminal that nobody waits for any more must not hold the program.
    runtime.shutdown_background();
    outcome
}

fn report(error: &dyn Error) {
    eprintln!("switchboard: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
}

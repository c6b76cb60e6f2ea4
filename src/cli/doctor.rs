//! `switchboard doctor`: checks what a node needs, one line a check, each failure with its cure.

mod bus;
mod database;
mod files;
mod finding;
mod ports;
mod reachable;

use super::{CliError, Globals};
use crate::config::Config;
use crate::edge::page;
use finding::Finding;

/// Checks what a node needs: config, database, bus, ports and limits
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only ask the node of this config whether it lives (/livez of listen.http); for health checks of containers
    #[arg(long)]
    live: bool,
}

/// What the doctor's patient lacks.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {checks} checks failed; each FAIL above says what to do")]
pub struct Unwell {
    failed: usize,
    checks: usize,
    exit_code: u8,
}

impl Unwell {
    /// Returns the exit code of the program: that of what would keep a node from starting, else 1.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// Runs the checks.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    let config = match globals.load_config() {
        Ok(config) => config,
        Err(error) => {
            say(&Finding::fail("config", "cannot be used; what is wrong and what is allowed is listed below"));
            return Err(error.into());
        }
    };
    if args.live {
        return live(&config).await;
    }
    let source = globals.config.as_ref().map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::ok("config", format!("{source}, with the environment and flags over it"))];
    say(&findings[0]);
    let mut tell = |finding: Finding| {
        say(&finding);
        findings.push(finding);
    };
    tell(database::check(&config.store.url).await);
    for finding in bus::check(&config).await {
        tell(finding);
    }
    for finding in ports::check(&config).await {
        tell(finding);
    }
    tell(files::check());
    verdict(&findings)
}

fn verdict(findings: &[Finding]) -> Result<(), CliError> {
    let failed = findings.iter().filter_map(Finding::failure);
    // The codes rank by themselves: 78 for what no waiting cures, 69 for what may come back, 1 for the rest.
    match failed.clone().max() {
        None => Ok(()),
        Some(exit_code) => Err(Unwell { failed: failed.count(), checks: findings.len(), exit_code }.into()),
    }
}

async fn live(config: &Config) -> Result<(), CliError> {
    let address = reachable::reachable(config.listen.http);
    match page::get(address, "/livez").await {
        Ok(answer) if answer.status == 200 => {
            say(&Finding::ok("node", format!("answers /livez on {address}")));
            Ok(())
        }
        Ok(answer) => Err(CliError::failed(format!("{address} answers /livez with {}, not 200", answer.status))),
        Err(error) => {
            let context = format!("no node answers /livez on {address}; start it, or correct listen.http");
            Err(CliError::failed_by(context, error))
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is what the program was asked to show")]
fn say(finding: &Finding) {
    println!("{finding}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_failure_that_matters_most() {
        let code = |findings: &[Finding]| match verdict(findings) {
            Ok(()) => 0,
            Err(error) => error.exit_code(),
        };
        let (ok, warn) = (Finding::ok("a", "well"), Finding::warn("b", "take care"));
        let (fail, away) = (Finding::fail("c", "ill"), Finding::fail("d", "away").exit_code(69));
        assert_eq!(code(&[ok.clone(), warn.clone()]), 0);
        assert_eq!(code(&[ok.clone(), fail.clone()]), 1);
        assert_eq!(code(&[away.clone(), fail.clone(), ok]), 69);
        assert_eq!(code(&[away, Finding::fail("e", "wrong").exit_code(78), fail, warn]), 78);
    }
}

//! `switchboard replay`: plays a chat log through a cluster and checks that everybody received everything.

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::bench::cast::Cast;
use crate::bench::irc::{Log, Statistics};
use crate::bench::replay::{Pace, Plan, Progress, ReplayError, Script, Stage, replay};
use crate::protocol::Password;

/// The password of the users that a replay registers, unless another one is given. They are for play, not for people.
const PASSWORD: &str = "switchboard-replay";

/// How often a line tells the progress where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Arguments of `switchboard replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The log: lines such as `[09:03] <nick> text`, `* nick does`, `=== a is now known as b`.
    file: PathBuf,
    /// The balancer's address, or several nodes' addresses.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:8000")]
    server: Vec<String>,
    /// Messages a second.
    #[arg(long, default_value_t = 200.0, value_parser = positive)]
    rate: f64,
    /// Plays by the log's own clock instead, so many times as fast.
    #[arg(long, conflicts_with = "rate", value_parser = positive)]
    speed: Option<f64>,
    /// The name of the group; the log's name unless given.
    #[arg(long)]
    group: Option<String>,
    /// Stops after so many lines of talk.
    #[arg(long, value_name = "LINES")]
    limit_lines: Option<usize>,
    /// Gives up after this long without progress.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// The password of the users, who are registered at the first replay and log in again at the next.
    #[arg(long, default_value = PASSWORD, hide_default_value = true)]
    password: String,
}

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    /// The log cannot be read.
    #[error("cannot read the log {}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be played.
    #[error("the log cannot be played")]
    Replay(#[from] ReplayError),
    /// It was played, and something went wrong.
    #[error(
        "the replay is not clean: {lost} lost, {duplicated} duplicated, {reordered} reordered, {unstored} not stored"
    )]
    NotClean {
        /// Deliveries that did not come.
        lost: u64,
        /// Deliveries that came again.
        duplicated: u64,
        /// Deliveries that came late.
        reordered: u64,
        /// Messages without an acknowledgement.
        unstored: u64,
    },
}

/// Plays the log, prints what came of it, and fails unless everybody received everything exactly once and in order.
pub async fn run(args: ReplayArgs) -> Result<(), ReplayFailure> {
    let bytes =
        tokio::fs::read(&args.file).await.map_err(|source| ReplayFailure::Log { path: args.file.clone(), source })?;
    let log = Log::parse(&bytes);
    println!("{}", Summary(&log.statistics));
    let pace = args.speed.map_or(Pace::Rate(args.rate), Pace::Speed);
    let script = Script::new(Cast::of(&log), pace, args.limit_lines);
    println!("{} messages of {} users", script.messages(), script.users());
    if script.cut > 0 {
        println!("{} texts are too long for one message and were cut into several", script.cut);
    }
    let name = args.file.file_stem().map_or_else(|| "replay".into(), |stem| stem.to_string_lossy());
    let group = args.group.unwrap_or_else(|| name.chars().take(32).collect());
    let plan = Plan {
        servers: args.server,
        password: Password::new(args.password),
        group,
        patience: args.patience,
        logins_at_once: 16,
    };
    // Every user is a descriptor; where the limit cannot be raised, connecting says so.
    rlimit::increase_nofile_limit(u64::MAX).ok();
    let (progress, seen) = watch::channel(Progress { stage: Stage::LoggingIn, done: 0, of: 0, deliveries: 0 });
    let teller = tokio::spawn(tell(seen));
    let outcome = replay(script, &plan, &progress).await;
    drop(progress);
    teller.await.ok();
    let report = outcome?;
    print!("{report}");
    if report.is_clean() {
        println!("clean: everybody received everything exactly once and in order");
        return Ok(());
    }
    let verdict = &report.verdict;
    Err(ReplayFailure::NotClean {
        lost: verdict.lost.count,
        duplicated: verdict.duplicated.count,
        reordered: verdict.reordered.count,
        unstored: report.messages as u64 - verdict.acknowledged.min(report.messages as u64),
    })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.001 => Ok(number),
        _ => Err("use a number of at least 0.001".to_owned()),
    }
}

/// Says what was in the log.
struct Summary<'a>(&'a Statistics);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { lines, lossy, empty, system, skipped, skipped_lines } = self.0;
        write!(
            f,
            "{lines} lines: {system} of the channel's own, {empty} empty, {lossy} with bytes that are not UTF-8"
        )?;
        if *skipped > 0 {
            let numbers: Vec<_> = skipped_lines.iter().map(usize::to_string).collect();
            let more = if *skipped > skipped_lines.len() { ", .." } else { "" };
            write!(f, ", {skipped} of no known form (lines {}{more})", numbers.join(", "))?;
        }
        Ok(())
    }
}

/// Shows the progress on standard error: a bar on a terminal, otherwise a line every few seconds.
async fn tell(mut seen: watch::Receiver<Progress>) {
    let bar = io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(0).with_style(style)
    });
    let mut last = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let Progress { stage, done, of, deliveries } = *seen.borrow_and_update();
        let doing = match stage {
            Stage::LoggingIn => "logging in",
            Stage::Joining => "joining",
            Stage::Playing => "playing",
        };
        match &bar {
            Some(bar) => {
                bar.set_message(doing);
                bar.set_length(of);
                bar.set_position(done);
            }
            None if last.elapsed() >= TELL_EVERY => {
                last = Instant::now();
                eprintln!("{doing}: {done} of {of}, {deliveries} deliveries");
            }
            None => {}
        }
        if seen.has_changed().is_err() {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return;
        }
    }
}

//! `switchboard nginx`: works for the Nginx balancer in front of the nodes.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use super::serve::StopSignals;
use super::{CliError, Globals};
use crate::config::Config;
use crate::edge::nginx::{Layout, render};
use crate::edge::{Watch, live_nodes};
use crate::model::store::{self, Store};

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
    /// Follows the cluster: keeps a running Nginx at the nodes that take new clients
    Watch(WatchArgs),
}

#[derive(Debug, clap::Args)]
struct RenderArgs {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take the nodes that serve now from the node table of the log, instead of edge.nodes
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct WatchArgs {
    /// The config that Nginx runs on; its [edge] section says everything but the nodes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The Nginx to check the config with and to reload
    #[arg(long, value_name = "PROGRAM", default_value = "nginx")]
    nginx: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
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
        Command::Render(args) => write_conf(args, globals).await,
        Command::Watch(args) => watch(args, globals).await,
    }
}

async fn write_conf(args: RenderArgs, globals: &Globals) -> Result<(), CliError> {
    let mut config = globals.load_config()?;
    if args.live {
        let log = open_existing(&config).await?;
        let nodes = log.nodes().await;
        log.close().await;
        let (now, rows) = nodes?;
        config.edge.nodes = live_nodes(&rows, now);
        if config.edge.nodes.is_empty() {
            return Err(CliError::failed("no node serves now, says the node table; start one, or leave --live out"));
        }
    }
    let conf = render(&config.edge, &args.place.layout()?);
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

async fn watch(args: WatchArgs, globals: &Globals) -> Result<(), CliError> {
    let config = globals.load_config()?;
    let mut signals = StopSignals::new()?;
    let store = open_existing(&config).await?;
    // Nginx, too, is given the path, and would look for a relative one under its own prefix.
    let output = std::path::absolute(&args.output).map_err(|e| {
        CliError::failed_by(format!("--output {}: cannot tell where that is", args.output.display()), e)
    })?;
    let (layout, edge, stop) = (args.place.layout()?, config.edge, CancellationToken::new());
    let watch = Watch { store: Arc::clone(&store), edge, layout, output, program: args.nginx };
    tracing::info!(output = %watch.output.display(), "following the node table");
    let stopping = async {
        signals.next().await;
        stop.cancel();
    };
    tokio::join!(watch.run(stop.clone()), stopping);
    store.close().await;
    Ok(())
}

/// Opens the log with the node table, which is of no use before a node has made it.
async fn open_existing(config: &Config) -> Result<Arc<dyn Store>, CliError> {
    if !store::exists(&config.store.url).await? {
        let url = &config.store.url;
        return Err(CliError::failed(format!("there is no log at {url}; start a node first, or correct store.url")));
    }
    Ok(store::open(&config.store.url).await?)
}

impl Place {
    fn layout(self) -> Result<Layout, CliError> {
        let prefix = self.prefix.map(|folder| absolute(&folder)).transpose()?;
        Ok(Layout { prefix, load_module: self.load_module })
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

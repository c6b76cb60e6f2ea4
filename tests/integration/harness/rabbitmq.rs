use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use switchboard::bus::{BusKind, MessageBus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::kept::find_program;
use super::server::{Program, Server};
use super::{broker, free_port};

/// What lets an operator's tools in.
const COOKIE: &str = "harness";
/// The broker's name in the distribution of Erlang.
const NODE: &str = "rabbitmq@localhost";

/// Erlang's port mapper would leave the group of the broker if the broker had to start it, and so outlive it.
const RUN: &str = r#""$EPMD" -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$SERVER""#;

/// How RabbitMQ is run.
#[derive(Debug)]
pub(crate) struct Rabbitmq {
    server: PathBuf,
    epmd: PathBuf,
    erl_call: PathBuf,
    folder: PathBuf,
    port: u16,
    epmd_port: u16,
    distribution_port: u16,
}

/// A real RabbitMQ.
pub(crate) type RabbitmqServer = Server<Rabbitmq>;

impl Program for Rabbitmq {
    const NAME: &'static str = "rabbitmq-server";
    const GET: &'static str = "scripts/brokers install rabbitmq";
    const KIND: BusKind = BusKind::Rabbitmq;
    const KEY: &'static str = "bus.rabbitmq.url";
    const STARTS_SLOWLY: bool = true;

    async fn lay_out(folder: &Path) -> Option<Self> {
        // What Debian has on the path changes the user, and does not pass a signal on.
        let debian = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let server = if debian.is_file() { debian } else { find_program("rabbitmq-server", [])? };
        let (epmd, erl_call) = (find_program("epmd", [])?, find_program("erl_call", [])?);
        let (port, epmd_port, distribution_port) = (free_port(), free_port(), free_port());
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             disk_free_limit.absolute = 50MB\n\
             log.console = true\n\
             log.console.level = warning\n\
             log.file = false\n"
        );
        let cookie = folder.join(".erlang.cookie");
        for (path, text) in [
            (&folder.join("rabbitmq.conf"), config.as_str()),
            (&folder.join("enabled_plugins"), "[]."),
            (&cookie, COOKIE),
        ] {
            std::fs::write(path, text).expect("the folder takes files");
        }
        std::fs::set_permissions(cookie, PermissionsExt::from_mode(0o400)).expect("the file is ours");
        Some(Self { server, epmd, erl_call, folder: folder.to_owned(), port, epmd_port, distribution_port })
    }

    fn command(&self) -> Vec<String> {
        let folder = self.folder.display();
        let environment = [
            ("SERVER", format!("{}", self.server.display())),
            ("EPMD", format!("{}", self.epmd.display())),
            ("HOME", format!("{folder}")),
            ("ERL_EPMD_PORT", format!("{}", self.epmd_port)),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", NODE.to_owned()),
            ("RABBITMQ_DIST_PORT", format!("{}", self.distribution_port)),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", format!("{folder}/rabbitmq")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{folder}/enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", format!("{folder}/mnesia")),
            ("RABBITMQ_LOG_BASE", format!("{folder}/log")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", format!("{folder}/pid")),
            // Its schedulers would spin while they wait, on a machine that has other things to do; and its distribution
            // is to listen on loopback only.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            ),
        ];
        let variables = environment.into_iter().map(|(name, value)| format!("{name}={value}"));
        std::iter::once("env".to_owned()).chain(variables).chain(["sh", "-c", RUN].map(str::to_owned)).collect()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@{}", self.address())
    }

    async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address()).await?;
            stream.write_all(b"AMQP\0\0\x09\x01").await?;
            // The frame of a method on channel 0: `connection.start`.
            let mut answer = [0; 11];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.starts_with(&[1, 0, 0]) && answer.ends_with(&[0, 10, 0, 10]))
        };
        ask.await.unwrap_or(false)
    }
}

impl RabbitmqServer {
    /// Evaluates Erlang in the broker, as its own tools do, and returns what comes of it.
    pub(crate) async fn evaluate(&self, expression: &str) -> String {
        let program = self.program();
        let mut child = Command::new(&program.erl_call)
            // Two of them at once need names of their own.
            .args(["-sname", NODE, "-h", &format!("test{:016x}", rand::random::<u64>()), "-c", COOKIE, "-e"])
            .env("ERL_EPMD_PORT", program.epmd_port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("erl_call starts");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(format!("{expression}.\n").as_bytes()).await.expect("erl_call reads");
        drop(input);
        let said = child.wait_with_output().await.expect("erl_call ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let answer = text(&said.stdout);
        let good = answer.strip_prefix("{ok, ").and_then(|answer| answer.strip_suffix('}'));
        good.unwrap_or_else(|| panic!("{expression}: {answer}{}", text(&said.stderr))).to_owned()
    }

    /// Makes a virtual host for one test, in which it is alone.
    pub(crate) async fn virtual_host(&self) -> VirtualHost<'_> {
        let name = format!("test-{:016x}", rand::random::<u64>());
        let all = "<<\".*\">>";
        self.evaluate(&format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{name}\">>, {all}, {all}, {all}, <<\"test\">>)"
        ))
        .await;
        VirtualHost { server: self, name }
    }

    /// Has the broker run out of memory, or have enough of it again.
    pub(crate) async fn set_memory_alarm(&self, on: bool) {
        let watermark = if on { "0.00001" } else { "0.4" };
        self.evaluate(&format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark})")).await;
    }
}

/// A part of a broker that shares nothing with others.
pub(crate) struct VirtualHost<'a> {
    server: &'a RabbitmqServer,
    name: String,
}

impl VirtualHost<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server.url(), self.name)
    }

    /// Makes a bus here. It need not be connected yet.
    pub(crate) async fn bus(&self) -> Arc<dyn MessageBus> {
        broker::bus_at(Rabbitmq::KIND, Rabbitmq::KEY, &self.url()).await
    }

    /// Returns the names of the queues that are here.
    pub(crate) async fn queues(&self) -> Vec<String> {
        let names = "[binary_to_list(Name) || {resource, _, queue, Name} <- rabbit_amqqueue:list_names(<<\"$\">>)]";
        strings(&self.server.evaluate(&names.replace('$', &self.name)).await)
    }

    /// Returns the processes of the connections of a role that are here, as Erlang writes them.
    pub(crate) async fn connections(&self, role: &str) -> Vec<String> {
        let expression = "[pid_to_list(Pid) || Pid <- rabbit_networking:connections(), \
            [{vhost, <<\"VHOST\">>}, {client_properties, Properties}] <- \
                [rabbit_networking:connection_info(Pid, [vhost, client_properties])], \
            lists:member({<<\"connection_name\">>, longstr, <<\"switchboard ROLE\">>}, Properties)]";
        strings(&self.server.evaluate(&expression.replace("VHOST", &self.name).replace("ROLE", role)).await)
    }
}

/// Returns the strings in what Erlang writes.
fn strings(text: &str) -> Vec<String> {
    let mut strings: Vec<String> = text.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    strings.sort();
    strings
}

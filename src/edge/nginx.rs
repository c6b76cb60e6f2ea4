//! Renders the config of Nginx as a TCP balancer.

use std::fmt::Write;
use std::time::Duration;

use super::{Balance, EdgeConfig};

/// Descriptors of a worker that are no connections: listening sockets, logs, channels to the master.
const SPARE_DESCRIPTORS: u32 = 128;

/// Where Nginx keeps its files.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The folder of the pid file and the error log; `None`: where Debian's Nginx keeps them.
    pub prefix: Option<String>,
    /// The stream module to load; `None`: whatever Debian has enabled, which on other systems includes nothing.
    pub load_module: Option<String>,
}

/// Renders a complete `nginx.conf`.
pub fn render(edge: &EdgeConfig, layout: &Layout) -> String {
    let (pid, error_log) = match &layout.prefix {
        Some(prefix) => (format!("{prefix}/nginx.pid"), format!("{prefix}/error.log")),
        None => ("/run/nginx.pid".to_owned(), "/var/log/nginx/error.log".to_owned()),
    };
    let modules = match &layout.load_module {
        Some(path) => format!("load_module {};", quoted(path)),
        None => "include /etc/nginx/modules-enabled/*.conf;".to_owned(),
    };
    let balance = match edge.balance {
        Balance::RoundRobin => "",
        Balance::LeastConn => "        least_conn;\n",
        Balance::Hash => "        hash $remote_addr consistent;\n",
    };
    let mut servers = String::new();
    for node in &edge.nodes {
        writeln!(servers, "        server {} weight={} max_fails=3 fail_timeout=30s;", node.address, node.weight)
            .expect("a String takes everything");
    }
    format!(
        "# Made by `switchboard nginx render`. Change the [edge] section of the config and render again.
{modules}
worker_processes auto;
# Each client takes two descriptors: one connection on either side.
worker_rlimit_nofile {descriptors};
pid {pid};
error_log {error_log} warn;

events {{
    worker_connections {connections};
}}

stream {{
    upstream switchboard {{
        # All workers share one view of which nodes have failed; room for a thousand.
        zone switchboard 2m;
{balance}{servers}    }}

    server {{
        listen {listen} backlog=4096;
        proxy_pass switchboard;
        proxy_connect_timeout 1s;
        # Longer than a node lets a client be silent, so that it is the node that says goodbye.
        proxy_timeout {timeout};
        tcp_nodelay on;
    }}
}}
",
        descriptors = edge.worker_connections + SPARE_DESCRIPTORS,
        pid = quoted(&pid),
        error_log = quoted(&error_log),
        connections = edge.worker_connections,
        listen = edge.listen,
        timeout = time(edge.proxy_timeout),
    )
}

/// Writes a parameter so that Nginx reads it back whole, whatever characters a path has.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn time(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        (_, _) => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{EdgeNode, NodeAddress};

    #[test]
    fn nodes_stand_in_order_with_weight_and_failure_limits() {
        let node = |address, weight| EdgeNode { address: NodeAddress::new(address).unwrap(), weight };
        let edge = EdgeConfig { nodes: vec![node("b:1", 3), node("a:2", 1)], ..EdgeConfig::default() };
        let conf = render(&edge, &Layout::default());
        let servers: Vec<&str> =
            conf.lines().map(str::trim).filter(|l| l.starts_with("server ") && l.ends_with(';')).collect();
        assert_eq!(
            servers,
            ["server b:1 weight=3 max_fails=3 fail_timeout=30s;", "server a:2 weight=1 max_fails=3 fail_timeout=30s;"]
        );
    }

    #[test]
    fn a_worker_may_open_a_descriptor_for_each_connection() {
        let edge = EdgeConfig { worker_connections: 1000, ..EdgeConfig::default() };
        let conf = render(&edge, &Layout::default());
        assert!(conf.contains("worker_connections 1000;") && conf.contains("worker_rlimit_nofile 1128;"), "{conf}");
    }

    #[test]
    fn balance_picks_the_directive() {
        let conf = |balance| render(&EdgeConfig { balance, ..EdgeConfig::default() }, &Layout::default());
        assert!(conf(Balance::LeastConn).contains("least_conn;"));
        assert!(conf(Balance::Hash).contains("hash $remote_addr consistent;"));
        let round_robin = conf(Balance::RoundRobin);
        assert!(!round_robin.contains("least_conn") && !round_robin.contains("hash"));
    }

    #[test]
    fn odd_paths_are_quoted() {
        let layout = Layout { prefix: Some("/tmp/a \"b\"; c".to_owned()), load_module: Some("/m.so".to_owned()) };
        let conf = render(&EdgeConfig::default(), &layout);
        assert!(conf.contains(r#"pid "/tmp/a \"b\"; c/nginx.pid";"#), "{conf}");
        assert!(conf.contains("load_module /m.so;") && !conf.contains("include"), "{conf}");
    }

    #[test]
    fn fractions_of_a_second_are_kept() {
        assert_eq!(time(Duration::from_millis(1500)), "1500ms");
        assert_eq!(time(Duration::from_secs(600)), "600s");
    }
}

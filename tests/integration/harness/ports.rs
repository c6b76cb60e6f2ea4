use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// The ports to choose from: below those that outgoing connections take, above those that servers usually listen on.
const PORTS: std::ops::Range<u16> = 20_000..32_768;

/// Finds a loopback port that nobody listens on and that this process has not given out before.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let given = given.get_or_insert_default();
    loop {
        let port = rand::random_range(PORTS);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
        assert!(given.len() < PORTS.len() / 2, "this run has taken half of the ports of the machine");
    }
}

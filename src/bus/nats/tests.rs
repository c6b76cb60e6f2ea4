use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::bus::supervisor::Table;

/// Connects to a server that begins with a line and gives one answer to whatever it is told.
async fn refused_with(info: &str, answer: &str) -> BusError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = BrokerUrl::new(format!("nats://u:secret@{}", listener.local_addr().unwrap()));
    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    };
    let backend = NatsBackend::new(&NatsConfig { url }).unwrap();
    tokio::select! {
        connected = backend.connect(Incoming::new(Arc::new(Table::new()), 0)) => connected.err().unwrap(),
        () = serve => unreachable!("a server never ends"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_so_and_not_shown() {
    let error = refused_with("{\"auth_required\":true}", "-ERR 'Authorization Violation'\r\n").await;
    assert_eq!(error.kind(), BusErrorKind::Rejected);
    assert!(error.to_string().contains("bus.nats.url"), "{error:?}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let begun = std::time::Instant::now();
    let error = refused_with("{}", "").await;
    assert_eq!(error.kind(), BusErrorKind::Timeout);
    assert!(begun.elapsed() >= CONNECT_WITHIN);
}

#[test]
fn a_server_that_cannot_carry_the_bus_is_refused_by_what_is_to_be_set() {
    let server = ServerInfo { headers: true, max_payload: MAX_PAYLOAD, ..ServerInfo::default() };
    assert!(suits(&server).is_ok());
    let refusal = |server: ServerInfo| {
        let error = suits(&server).unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Rejected);
        error.to_string()
    };
    assert!(refusal(ServerInfo { max_payload: MAX_PAYLOAD - 1, ..server.clone() }).contains("set max_payload to 1MB"));
    assert!(refusal(ServerInfo { headers: false, ..server }).contains("no_header_support"));
}

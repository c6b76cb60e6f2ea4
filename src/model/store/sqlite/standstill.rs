//! Only for tests: a paused clock of tokio runs ahead to the next timer whenever the runtime is idle, and a runtime
//! that waits for a database's thread looks idle.

use std::sync::mpsc;

/// Keeps a paused clock from running ahead for as long as it lives.
pub(super) struct Standstill {
    _end: mpsc::SyncSender<()>,
}

impl Standstill {
    pub(super) fn begin() -> Self {
        let (_end, ended) = mpsc::sync_channel(0);
        // The clock stands still while the runtime has blocking work; this work ends when the sender is dropped.
        tokio::task::spawn_blocking(move || ended.recv());
        Self { _end }
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_run_ahead_of_the_log() {
    use crate::model::Name;
    use crate::model::store::open;
    use std::time::Duration;

    let timer = tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
    let store = open("memory:").await.unwrap();
    for number in 0..100 {
        store.user_create(&Name::new(&format!("user-{number}")).unwrap(), "hash").await.unwrap();
        store.now().await.unwrap();
    }
    store.close().await;
    assert!(!timer.is_finished());
}

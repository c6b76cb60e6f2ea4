use std::time::Duration;

use tokio::time::Instant;

/// Polls a condition until it holds, and panics when it does not before the deadline.
pub(crate) async fn eventually<C>(what: &str, deadline: Duration, mut condition: impl FnMut() -> C)
where
    C: Future<Output = bool>,
{
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

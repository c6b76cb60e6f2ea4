//! How far back a sweep looks.

use tokio::time::{Duration, advance};

use super::super::sweep::Sweeper;
use crate::model::Millis;
use crate::model::store::StoreErrorKind;
use crate::server::scene::{Call, Cluster};

const NOTHING_EARLIER: Millis = Millis::MAX / 2;

#[tokio::test(start_paused = true)]
async fn a_sweep_begins_before_the_last_that_succeeded_and_now_and_then_long_before() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    // Nobody else sweeps.
    a.crash();
    let mut sweeper = Sweeper::new(10_000);
    let mut sweep = async |since| {
        let clock = cluster.log.now().await.unwrap();
        let swept = sweeper.sweep(&a.core, since).await.is_ok();
        (swept, a.store.changes_since().unwrap(), clock..=cluster.log.now().await.unwrap())
    };
    let (_, first, clock) = sweep(NOTHING_EARLIER).await;
    assert_eq!(first, 10_000 - 5_000, "whatever an append transaction can last");
    a.store.fail(Call::Changes, StoreErrorKind::Unavailable);
    assert!(!sweep(NOTHING_EARLIER).await.0);
    let (_, again, later) = sweep(NOTHING_EARLIER).await;
    assert!(clock.contains(&(again + 500)), "{again} is not half a second before {clock:?}");
    advance(Duration::from_millis(2_001)).await;
    let (_, long, _) = sweep(NOTHING_EARLIER).await;
    assert!(later.contains(&(long + 5_000)), "{long} is not five seconds before {later:?}");
    assert_eq!(sweep(7_000).await.1, 6_500, "somebody knows of an earlier loss");
}

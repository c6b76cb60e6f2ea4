//! What breaks is broken here, under traffic: brokers, nodes, databases and readers. Nothing that was acknowledged is
//! lost, comes twice, or comes out of order.

mod broker;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod database;
mod drain;
mod node;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod redis;
mod rolling;
mod slow;
mod traffic;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Waits until this test may go on, for as long as it has the answer. Each keeps several nodes, a broker and users busy:
/// where too many do at a time, nodes have no time for their peers and brokers none for their nodes, and what breaks is
/// what no test has broken.
async fn turn() -> SemaphorePermit<'static> {
    static TURNS: Semaphore = Semaphore::const_new(4);
    TURNS.acquire().await.expect("never closed")
}

use std::net::SocketAddr;

use async_trait::async_trait;

use super::redis::RedisServer;

/// A real broker that a test may break.
#[async_trait]
pub(crate) trait BrokerServer: Send + Sync {
    /// Returns the lines of a config that put a node on it.
    fn settings(&self) -> String;

    /// Returns the address that it listens on.
    fn address(&self) -> SocketAddr;

    /// Starts it, which must not run, and waits until it answers.
    async fn start(&self);

    /// Ends it at once, as a power cut does, and waits until it is gone.
    fn kill(&self);

    /// Ends it in order and starts it again.
    async fn restart(&self);

    /// Stops it: its connections stay open, and nothing is answered.
    fn pause(&self);

    /// Lets it go on after [`pause`](Self::pause).
    fn resume(&self);
}

/// Every server of ours has the same methods, whatever it speaks.
macro_rules! broker_server {
    ($server:ty, $settings:expr) => {
        #[async_trait]
        impl BrokerServer for $server {
            fn settings(&self) -> String {
                let settings: fn(&$server) -> String = $settings;
                settings(self)
            }

            fn address(&self) -> SocketAddr {
                <$server>::address(self)
            }

            async fn start(&self) {
                <$server>::start(self).await;
            }

            fn kill(&self) {
                <$server>::kill(self);
            }

            async fn restart(&self) {
                <$server>::restart(self).await;
            }

            fn pause(&self) {
                <$server>::pause(self);
            }

            fn resume(&self) {
                <$server>::resume(self);
            }
        }
    };
}

broker_server!(RedisServer, |redis| format!("bus.redis.url = \"{}\"", redis.url()));

//! The log on database servers in containers, where a Docker daemon answers.

use crate::harness::docker::{self, Container};

/// Stamps the contract on a database in a container.
macro_rules! in_docker {
    ($name:ident, $log:ident, $recipe:path) => {
        mod $name {
            use super::*;
            use crate::harness::$name::$log;

            switchboard::store_contract!(
                contract,
                match Container::shared(&$recipe).await {
                    Some(server) => $log::on(&server.url()).await,
                    None => return,
                }
            );
        }
    };
}

#[cfg(feature = "postgres")]
in_docker!(postgres, PostgresLog, docker::POSTGRES);
#[cfg(feature = "mysql")]
in_docker!(mysql, MysqlLog, docker::MARIADB);

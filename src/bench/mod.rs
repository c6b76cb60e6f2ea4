//! The laboratory: what plays a load against a cluster and counts, exactly, what became of it.

pub mod bus;
pub mod cast;
pub mod irc;
pub mod ledger;
pub mod replay;

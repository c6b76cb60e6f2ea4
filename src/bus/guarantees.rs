/// Whether a backend claims something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It does, and the contract suite proves it.
    Yes,
    /// It does not.
    No,
    /// The question makes no sense for this backend: an in-process bus has no broker to restart.
    NotApplicable,
}

/// What a backend claims, as data: read by the contract suite, the docs, the report and the delivery path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantees {
    /// Messages of one publisher to one subject arrive in order.
    pub ordered: Claim,
    /// An accepted message reaches every effective subscription even across a broken connection, possibly twice.
    pub at_least_once: Claim,
    /// A message accepted before a broker restart is delivered after it.
    pub survives_broker_restart: Claim,
    /// A successful publish means that the broker has taken the message, not only the socket.
    pub confirmed: Claim,
    /// [`Receipt::receivers`](super::Receipt::receivers) is known.
    pub counts_receivers: Claim,
    /// [`Receipt::receivers`](super::Receipt::receivers) is 0 for a message that nobody was subscribed to.
    pub tells_no_receivers: Claim,
    /// A subject per user is affordable.
    pub per_user_subjects: Claim,
    /// The largest payload in bytes.
    pub max_payload: usize,
}

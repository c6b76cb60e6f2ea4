use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::model::UserId;
use crate::model::store::Meta;
use crate::server::core::unix_now;

/// Makes and checks session tokens: JWTs whose key every node of the cluster reads from the log.
pub(crate) struct Tokens {
    issuer: String,
    ttl: Duration,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// The version of the account when the token was made.
    ver: u64,
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Makes the token maker of a cluster.
    pub(crate) fn new(meta: &Meta, ttl: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&meta.cluster_id]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        Self {
            issuer: meta.cluster_id.clone(),
            ttl,
            encoding: EncodingKey::from_secret(&meta.token_key),
            decoding: DecodingKey::from_secret(&meta.token_key),
            validation,
        }
    }

    /// Makes a token for a user, good for as long as their account stays at this version.
    pub(crate) fn issue(&self, user: UserId, version: u64) -> String {
        let now = unix_now().unsigned_abs() / 1000;
        let (iss, sub, exp) = (self.issuer.clone(), user.to_string(), now + self.ttl.as_secs());
        let claims = Claims { iss, sub, ver: version, iat: now, exp };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).expect("a symmetric key signs any claims")
    }

    /// Returns whose token it is and of which version of the account. `None`: it is not ours, has been tampered with, or has run out.
    pub(crate) fn check(&self, token: &str) -> Option<(UserId, u64)> {
        let claims = decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        Some((UserId::new(claims.sub.parse().ok()?)?, claims.ver))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(cluster_id: &str, key: u8, ttl: Duration) -> Tokens {
        Tokens::new(&Meta { cluster_id: cluster_id.to_owned(), token_key: vec![key; 32] }, ttl)
    }

    #[test]
    fn only_this_clusters_living_tokens_are_good() {
        let user = UserId::new(7).unwrap();
        let ours = tokens("0123456789abcdef", 1, Duration::from_secs(3600));
        let token = ours.issue(user, 3);
        assert_eq!(ours.check(&token), Some((user, 3)));
        assert_eq!(tokens("0123456789abcdef", 2, Duration::from_secs(3600)).check(&token), None, "another key");
        assert_eq!(tokens("fedcba9876543210", 1, Duration::from_secs(3600)).check(&token), None, "another cluster");
        assert_eq!(ours.check(&format!("{token}x")), None);
        assert_eq!(ours.check(""), None);
        let mut past = tokens("0123456789abcdef", 1, Duration::ZERO);
        past.validation.leeway = 0;
        past.validation.reject_tokens_expiring_in_less_than = 1;
        assert_eq!(past.check(&past.issue(user, 0)), None, "run out");
    }
}

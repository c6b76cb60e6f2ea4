use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use super::account::PASSWORD_BYTES;
use super::error::ServiceError;
use crate::protocol::{ErrorCode, Password};
use crate::server::config::AuthConfig;

/// Checks and hashes a new password as the nodes of a config do, for whoever changes an account without a node.
pub async fn hash_password(config: &AuthConfig, password: Password) -> Result<String, String> {
    let bytes = password.reveal().len();
    if !PASSWORD_BYTES.contains(&bytes) {
        return Err(format!("a password is 8 to 1024 bytes long, this one is {bytes}"));
    }
    Passwords::new(config)?.hash(password).await.map_err(|error| error.to_string())
}

/// Hashes and verifies passwords with argon2id, a few at a time, off the runtime.
#[derive(Debug)]
pub(crate) struct Passwords {
    params: Params,
    slots: Arc<Semaphore>,
    /// Verified in place of a user who does not exist, so that the answer takes as long.
    nobody: String,
}

impl Passwords {
    /// Makes the hasher. Fails when the parameters are none that argon2 takes.
    pub(crate) fn new(config: &AuthConfig) -> Result<Self, String> {
        let AuthConfig { argon2_memory_kib, argon2_passes, argon2_lanes, argon2_parallel, .. } = *config;
        let params = Params::new(argon2_memory_kib, argon2_passes, argon2_lanes, None)
            .map_err(|error| format!("auth.argon2_*: {error}: the defaults are 19456, 2 and 1"))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let slots = if argon2_parallel == 0 { cores } else { argon2_parallel };
        let nobody = hash(&params, "nobody has this password")?;
        Ok(Self { params, slots: Arc::new(Semaphore::new(slots)), nobody })
    }

    /// Hashes a new password.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, ServiceError> {
        let params = self.params.clone();
        self.run(move || hash(&params, password.reveal())).await?.map_err(|error| {
            tracing::error!(error, "a password could not be hashed");
            ServiceError::new(ErrorCode::Internal, "the password could not be hashed")
        })
    }

    /// Tells whether a password is the one that was hashed. `None`: there is no such user; it takes as long and is
    /// `false`.
    pub(crate) async fn verify(&self, password: Password, hash: Option<String>) -> Result<bool, ServiceError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let fits = self.run(move || {
            let parsed = PasswordHash::new(&hash);
            parsed.is_ok_and(|parsed| Argon2::default().verify_password(password.reveal().as_bytes(), &parsed).is_ok())
        });
        Ok(fits.await? && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| ServiceError::stopping())?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(slot);
            result
        });
        done.await.map_err(|_| ServiceError::stopping())
    }
}

fn hash(params: &Params, password: &str) -> Result<String, String> {
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    hasher.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

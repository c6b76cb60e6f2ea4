use super::error::ServiceError;
use crate::model::store::{StoreErrorKind, User};
use crate::model::{Name, UserId};
use crate::protocol::{ErrorCode, Login, Password};
use crate::server::core::Core;

/// The lengths of a password, in bytes.
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;

/// Makes an account.
pub(crate) async fn register(core: &Core, name: &str, password: Password) -> Result<UserId, ServiceError> {
    let name = Name::new(name).map_err(|error| ServiceError::new(ErrorCode::BadFrame, format!("`name`: {error}")))?;
    let bytes = password.reveal().len();
    if !PASSWORD_BYTES.contains(&bytes) {
        let message = format!("`password`: a password is 8 to 1024 bytes long, this one is {bytes}");
        return Err(ServiceError::new(ErrorCode::BadFrame, message));
    }
    let taken = || ServiceError::new(ErrorCode::NameTaken, format!("the name {name} is registered"));
    // Asking first spares the hash.
    if core.store.user_by_name(&name).await?.is_some() {
        return Err(taken());
    }
    let hash = core.passwords.hash(password).await?;
    match core.store.user_create(&name, &hash).await {
        Err(error) if error.kind() == StoreErrorKind::Conflict => Err(taken()),
        result => Ok(result?),
    }
}

/// Finds out who logs in.
pub(super) async fn authenticate(core: &Core, login: Login) -> Result<User, ServiceError> {
    let user = match (login.name, login.password, login.token) {
        (Some(name), Some(password), None) => {
            let user = match Name::new(&name) {
                Ok(name) => core.store.user_by_name(&name).await?,
                Err(_) => None,
            };
            let hash = user.as_ref().map(|user| user.password_hash.clone());
            if password.reveal().len() <= *PASSWORD_BYTES.end() && core.passwords.verify(password, hash).await? {
                user
            } else {
                None
            }
        }
        (None, None, Some(token)) => match core.tokens.check(token.reveal()) {
            Some(user) => core.reader.user(user).await?,
            None => None,
        },
        _ => None,
    };
    user.ok_or_else(|| ServiceError::new(ErrorCode::BadCredentials, "name and password, or the token, do not fit"))
}

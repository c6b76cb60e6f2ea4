//! Users and their names.

use super::FreshLog;
use super::scene::{name, users};
use crate::model::UserId;
use crate::model::store::{StoreError, StoreErrorKind};

/// Registers two spellings of one name.
pub async fn a_name_that_folds_to_a_taken_one_is_a_conflict(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    one.user_create(&name("Straße[]"), "hash").await?;
    let error = other.user_create(&name("STRASSE[]"), "hash").await.expect_err("the name is taken");
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error:?}");
    assert!(other.user_create(&name("strasse"), "hash").await.is_ok());
    Ok(())
}

/// Looks a user up in both ways, and somebody who is not there.
pub async fn a_user_is_found_by_folded_name_and_by_id(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    users(&*store, 2).await?;
    let id = store.user_create(&name("][x|Y]["), "the hash").await?;
    let found = store.user_by_name(&name("][X|y][")).await?.expect("registered");
    assert_eq!((found.id, found.name.as_str(), found.password_hash.as_str()), (id, "][x|Y][", "the hash"));
    let nobody = UserId::new(id.get() + 1000).expect("a valid id");
    let found = store.users(&[nobody, id, id]).await?;
    assert_eq!(found.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["][x|Y]["]);
    assert!(store.user_by_name(&name("nobody")).await?.is_none());
    Ok(())
}

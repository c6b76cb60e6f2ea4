use crate::model::store::Meta;
use crate::model::store::StoreError;
use crate::model::store::decode::broken;

/// Reads the identity of the cluster out of the rows of `meta`, (key, value) each.
pub(in crate::model::store) fn identity(rows: Vec<(String, Vec<u8>)>) -> Result<Meta, StoreError> {
    let (mut cluster_id, mut token_key) = (None, None);
    for (key, value) in rows {
        match key.as_str() {
            "cluster_id" => cluster_id = String::from_utf8(value).ok(),
            "token_key" => token_key = Some(value),
            _ => {}
        }
    }
    let is_id = |id: &String| id.len() == 16 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Ok(Meta {
        cluster_id: cluster_id.filter(is_id).ok_or_else(|| broken("no cluster id"))?,
        token_key: token_key.filter(|key| key.len() == 32).ok_or_else(|| broken("no token key"))?,
    })
}

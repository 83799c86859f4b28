//! SHA-256 over parts, each behind its length, so that no two lists of parts look alike.

use sha2::{Digest, Sha256};

/// The digest of `parts`, each behind its length in 8 bytes (big-endian).
#[must_use]
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new();
    for part in parts {
        state.update((part.len() as u64).to_be_bytes());
        state.update(part);
    }
    state.finalize().into()
}

/// 16 bytes that name a process.
#[must_use]
pub fn process_key(site: &str, host: &str, pid: i64, instance_id: &str) -> [u8; 16] {
    let text = [site, host, itoa::Buffer::new().format(pid), instance_id].join("\0");
    let whole: [u8; 32] = Sha256::digest(text).into();
    let mut key = [0; 16];
    key.copy_from_slice(&whole[..16]);
    key
}

//! The names of an object's fields: from the bytes of a key to its column in one probe, as a rule.

use super::tree::NodeId;

/// A small open-addressing table, never more than half full.
#[derive(Debug, Default)]
pub(super) struct Keys {
    slots: Vec<Option<(Box<[u8]>, NodeId)>>,
    count: usize,
}

impl Keys {
    /// False if the key is there already.
    pub(super) fn insert(&mut self, key: &[u8], id: NodeId) -> bool {
        if self.find(key).is_some() {
            return false;
        }
        if (self.count + 1) * 2 > self.slots.len() {
            let room = (self.slots.len() * 2).max(8);
            for (key, id) in std::mem::replace(&mut self.slots, vec![None; room]).into_iter().flatten() {
                self.place(key, id);
            }
        }
        self.count += 1;
        self.place(key.into(), id);
        true
    }

    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<NodeId> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(key) & mask;
        while let Some((found, id)) = &self.slots[at] {
            if **found == *key {
                return Some(*id);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn place(&mut self, key: Box<[u8]>, id: NodeId) {
        let mask = self.slots.len() - 1;
        let mut at = hash(&key) & mask;
        while self.slots[at].is_some() {
            at = (at + 1) & mask;
        }
        self.slots[at] = Some((key, id));
    }
}

/// The length and the ends of a key tell the fields of one object apart, nearly always.
#[inline]
fn hash(key: &[u8]) -> usize {
    let (head, tail) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            (u64::from_le_bytes(bytes), 0)
        }
    };
    let mixed = (head ^ tail.rotate_left(23) ^ key.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        let mut keys = Keys::default();
        let names: Vec<String> = (0..300).map(|n| format!("{}{n}", "k".repeat(n % 20))).collect();
        for (id, name) in names.iter().enumerate() {
            assert!(keys.insert(name.as_bytes(), id as NodeId));
        }
        for (id, name) in names.iter().enumerate() {
            assert_eq!(keys.find(name.as_bytes()), Some(id as NodeId));
            assert!(!keys.insert(name.as_bytes(), 0));
        }
        assert_eq!(keys.find(b"absent"), None);
        assert_eq!(Keys::default().find(b""), None);
    }
}

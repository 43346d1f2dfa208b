//! What the records before looked like: after which key which key came, byte for byte.
//!
//! A link is the text from the end of one value to the beginning of the next, such as `,"price":`, and the column that
//! it leads to. Each link remembers the links that followed it, so several shapes are kept as paths of one graph, and
//! a key that is missing or comes early leads over to another path. The graph only guesses: every guess is compared
//! with the record, and nothing of a record's fate depends on it.

use std::collections::BTreeMap;

use super::scan;
use super::tree::NodeId;

pub(super) type LinkId = u32;

/// Longest text of a link that is remembered.
pub(super) const TEXT_MAX: usize = 32;
/// Followers that a link remembers.
const FOLLOWERS_MAX: usize = 8;
/// Links of all shapes together. When they are many, the keys are data, and the memory starts afresh.
const LINKS_MAX: usize = 4096;

/// Where a link leads if no column has its key.
pub(super) const UNKNOWN: NodeId = NodeId::MAX;
const NONE: LinkId = LinkId::MAX;

#[derive(Debug, Clone)]
struct Link {
    text: [u8; TEXT_MAX],
    /// A bit for each byte of the text.
    need: u32,
    length: u32,
    column: NodeId,
    followers: [LinkId; FOLLOWERS_MAX],
}

#[derive(Debug)]
pub(super) struct Shapes {
    /// The first `objects` links stand for the beginning of each node's object.
    links: Vec<Link>,
    objects: usize,
    /// Links by the node of their object and their text: one link may follow many.
    by_text: BTreeMap<(NodeId, Box<[u8]>), LinkId>,
}

/// From a value to the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub link: LinkId,
    pub column: NodeId,
    pub length: usize,
}

impl Shapes {
    /// `objects` is the number of nodes; each may be an object.
    pub(super) fn new(objects: usize) -> Shapes {
        let start = Link::new(b"", UNKNOWN);
        Shapes { links: vec![start; objects], objects, by_text: BTreeMap::new() }
    }

    /// Called between two records.
    pub(super) fn forget_if_full(&mut self) {
        if self.links.len() >= self.objects + LINKS_MAX {
            *self = Shapes::new(self.objects);
        }
    }

    /// The link that begins at `at` in the record, if it has followed `link` before.
    #[inline(always)]
    pub(super) fn follow(&mut self, link: LinkId, bytes: &[u8], at: usize) -> Option<Step> {
        let found = scan::load(bytes, at)?;
        let guess = self.links.get(link as usize)?.followers[0];
        match self.check(guess, found) {
            Some(step) => Some(step),
            None => self.follow_another(link, found),
        }
    }

    /// Tries the followers but the first. One that is right moves up a place.
    #[inline(never)]
    fn follow_another(&mut self, link: LinkId, found: &[u8; TEXT_MAX]) -> Option<Step> {
        for place in 1..FOLLOWERS_MAX {
            let guess = self.links[link as usize].followers[place];
            if guess == NONE {
                return None;
            }
            if let Some(step) = self.check(guess, found) {
                self.links[link as usize].followers.swap(place, place - 1);
                return Some(step);
            }
        }
        None
    }

    #[inline(always)]
    fn check(&self, guess: LinkId, found: &[u8; TEXT_MAX]) -> Option<Step> {
        let link = self.links.get(guess as usize)?;
        let right = scan::equals(found, &link.text) & link.need == link.need;
        right.then_some(Step { link: guess, column: link.column, length: link.length as usize })
    }

    /// Remembers that `text`, which leads to `column` of `object`, followed `link`.
    pub(super) fn learn(&mut self, link: LinkId, object: NodeId, text: &[u8], column: NodeId) -> LinkId {
        if text.len() > TEXT_MAX {
            return NONE;
        }
        let id = match self.by_text.get(&(object, text.into())) {
            Some(id) => *id,
            None if self.links.len() >= self.objects + LINKS_MAX => return NONE,
            None => self.add(object, text, column),
        };
        if let Some(before) = self.links.get_mut(link as usize) {
            let place = before.followers.iter().position(|follower| *follower == NONE);
            before.followers[place.unwrap_or(FOLLOWERS_MAX - 1)] = id;
        }
        id
    }

    fn add(&mut self, object: NodeId, text: &[u8], column: NodeId) -> LinkId {
        let id = self.links.len() as LinkId;
        self.links.push(Link::new(text, column));
        self.by_text.insert((object, text.into()), id);
        id
    }
}

impl Link {
    /// `text` has at most `TEXT_MAX` bytes.
    fn new(text: &[u8], column: NodeId) -> Link {
        let mut padded = [0; TEXT_MAX];
        padded[..text.len()].copy_from_slice(text);
        let need = ((1u64 << text.len()) - 1) as u32;
        Link { text: padded, need, length: text.len() as u32, column, followers: [NONE; FOLLOWERS_MAX] }
    }
}

//! What the records before looked like: after which key which key came, byte for byte.
//!
//! A link is the text from the end of one value to the beginning of the next, such as `,"price":`, and the column that
//! it leads to. Each link remembers the links that followed it, so several shapes are kept as paths of one graph, and
//! a key that is missing or comes early leads over to another path. The graph only guesses: every guess is compared
//! with the record, and nothing of a record's fate depends on it.

use std::collections::BTreeMap;

use super::tree::NodeId;
use super::wide;

pub(super) type LinkId = u32;

/// Longest text of a link that is remembered, and how much of it is compared at once.
const TEXT_MAX: usize = 255;
const HEAD: usize = 32;
/// Followers that a link remembers.
const FOLLOWERS_MAX: usize = 8;
/// Links of all shapes together. When they are many, the keys are data, and the memory starts afresh.
const LINKS_MAX: usize = 4096;

/// Where a link leads if no column has its key.
pub(super) const UNKNOWN: NodeId = NodeId::MAX;
const NONE: LinkId = LinkId::MAX;

#[derive(Debug, Clone)]
struct Link {
    head: [u8; HEAD],
    /// A bit for each byte of the text that lies in the head.
    need: u32,
    /// Of the whole text.
    length: u32,
    /// What the head has no room for. Few keys are so long.
    tail: Box<[u8]>,
    column: NodeId,
    followers: [LinkId; FOLLOWERS_MAX],
}

#[derive(Debug)]
pub(super) struct Shapes {
    /// The first `objects` links stand for the beginning of each node's object.
    links: Vec<Link>,
    objects: usize,
    /// For each node, the links of its object by their text: one link may follow many.
    by_text: Vec<BTreeMap<Box<[u8]>, LinkId>>,
    /// Keys that no guess foretold.
    #[cfg(test)]
    learned: usize,
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
        Shapes {
            links: vec![start; objects],
            objects,
            by_text: vec![BTreeMap::new(); objects],
            #[cfg(test)]
            learned: 0,
        }
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
        let found = wide::load(bytes, at)?;
        let guess = self.links.get(link as usize)?.followers[0];
        match self.check(guess, found, bytes, at) {
            Some(step) => Some(step),
            None => self.follow_another(link, found, bytes, at),
        }
    }

    /// Tries the followers but the first. One that is right moves up a place.
    #[inline(never)]
    fn follow_another(&mut self, link: LinkId, found: &[u8; HEAD], bytes: &[u8], at: usize) -> Option<Step> {
        for place in 1..FOLLOWERS_MAX {
            let guess = self.links[link as usize].followers[place];
            if guess == NONE {
                return None;
            }
            if let Some(step) = self.check(guess, found, bytes, at) {
                self.links[link as usize].followers.swap(place, place - 1);
                return Some(step);
            }
        }
        None
    }

    #[inline(always)]
    fn check(&self, guess: LinkId, found: &[u8; HEAD], bytes: &[u8], at: usize) -> Option<Step> {
        let link = self.links.get(guess as usize)?;
        let right = wide::equals(found, &link.head) & link.need == link.need
            && (link.tail.is_empty() || bytes[at + HEAD..].starts_with(&link.tail));
        right.then_some(Step { link: guess, column: link.column, length: link.length as usize })
    }

    /// Remembers that `text`, which leads to `column` of `object`, followed `link`.
    pub(super) fn learn(&mut self, link: LinkId, object: NodeId, text: &[u8], column: NodeId) -> LinkId {
        #[cfg(test)]
        {
            self.learned += 1;
        }
        if text.len() > TEXT_MAX {
            return NONE;
        }
        let id = match self.by_text[object as usize].get(text) {
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

    #[cfg(test)]
    pub(super) fn learned(&self) -> usize {
        self.learned
    }

    fn add(&mut self, object: NodeId, text: &[u8], column: NodeId) -> LinkId {
        let id = self.links.len() as LinkId;
        self.links.push(Link::new(text, column));
        self.by_text[object as usize].insert(text.into(), id);
        id
    }
}

impl Link {
    /// `text` has at most `TEXT_MAX` bytes.
    fn new(text: &[u8], column: NodeId) -> Link {
        let (begin, tail) = text.split_at(text.len().min(HEAD));
        let mut head = [0; HEAD];
        head[..begin.len()].copy_from_slice(begin);
        let need = ((1u64 << begin.len()) - 1) as u32;
        let length = text.len() as u32;
        Link { head, need, length, tail: tail.into(), column, followers: [NONE; FOLLOWERS_MAX] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: NodeId = 0;

    /// Follows `link` where a record goes on like this.
    fn follow(shapes: &mut Shapes, link: LinkId, text: &str) -> Option<(NodeId, usize)> {
        let padded = [text.as_bytes(), &[0; wide::PADDING]].concat();
        shapes.follow(link, &padded, 0).map(|step| (step.column, step.length))
    }

    #[test]
    fn a_link_is_its_whole_text_whatever_its_length() {
        for length in [1, 8, 16, 17, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD, TEXT_MAX] {
            let text: String = (0..length).map(|index| char::from(b'a' + index as u8 % 26)).collect();
            let mut shapes = Shapes::new(1);
            assert_eq!(follow(&mut shapes, OBJECT, &text), None, "nothing is known at first");
            shapes.learn(OBJECT, OBJECT, text.as_bytes(), 7);
            assert_eq!(follow(&mut shapes, OBJECT, &format!("{text}1")), Some((7, length)));
            assert_eq!(follow(&mut shapes, OBJECT, &text[..length - 1]), None, "{length}");
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "~");
                assert_eq!(follow(&mut shapes, OBJECT, &other), None, "{length}, {place}");
            }
        }
        let long = "x".repeat(TEXT_MAX + 1);
        let mut shapes = Shapes::new(1);
        assert_eq!(shapes.learn(OBJECT, OBJECT, long.as_bytes(), 7), NONE);
        assert_eq!(follow(&mut shapes, OBJECT, &long), None);
        // Nothing is remembered of what follows it, and nothing falls over.
        assert_ne!(shapes.learn(NONE, OBJECT, b",\"a\":", 7), NONE);
    }

    #[test]
    fn a_text_that_begins_like_another_is_told_from_it() {
        let mut shapes = Shapes::new(1);
        shapes.learn(OBJECT, OBJECT, b",\"a\":", 1);
        shapes.learn(OBJECT, OBJECT, b",\"a\": ", 2);
        shapes.learn(OBJECT, OBJECT, b",\"ab\":", 3);
        assert_eq!(follow(&mut shapes, OBJECT, ",\"ab\":5"), Some((3, 6)));
        // Either is right: what is read behind them is the same.
        assert!(matches!(follow(&mut shapes, OBJECT, ",\"a\": 5"), Some((1, 5) | (2, 6))));
        assert_eq!(follow(&mut shapes, OBJECT, ",\"a\":5"), Some((1, 5)));
    }

    #[test]
    fn the_last_followers_are_kept_and_the_likeliest_are_tried_first() {
        let mut shapes = Shapes::new(1);
        let text = |number: usize| format!(",\"k{number}\":");
        for number in 0..=FOLLOWERS_MAX {
            shapes.learn(OBJECT, OBJECT, text(number).as_bytes(), number as NodeId);
        }
        assert_eq!(shapes.links[0].followers.len(), FOLLOWERS_MAX);
        // The newest took the place of the one before it.
        assert_eq!(follow(&mut shapes, OBJECT, &text(FOLLOWERS_MAX - 1)), None);
        for number in [0, FOLLOWERS_MAX - 2, FOLLOWERS_MAX] {
            let found = follow(&mut shapes, OBJECT, &text(number));
            assert_eq!(found, Some((number as NodeId, text(number).len())));
        }
        for _ in 0..FOLLOWERS_MAX {
            follow(&mut shapes, OBJECT, &text(FOLLOWERS_MAX));
        }
        let first = shapes.links[0].followers[0];
        assert_eq!(shapes.links[first as usize].column, FOLLOWERS_MAX as NodeId);
    }

    #[test]
    fn links_belong_to_their_object() {
        let mut shapes = Shapes::new(2);
        let outer = shapes.learn(0, 0, b"{\"a\":", 7);
        let inner = shapes.learn(1, 1, b"{\"a\":", 8);
        assert_ne!(outer, inner);
        assert_eq!(shapes.learn(0, 0, b"{\"a\":", 7), outer);
        assert_eq!(follow(&mut shapes, 0, "{\"a\":1"), Some((7, 5)));
        assert_eq!(follow(&mut shapes, 1, "{\"a\":1"), Some((8, 5)));
    }

    #[test]
    fn keys_that_are_data_do_not_fill_the_memory() {
        let mut shapes = Shapes::new(1);
        for number in 0..3 * LINKS_MAX {
            let id = shapes.learn(OBJECT, OBJECT, format!(",\"{number}\":").as_bytes(), UNKNOWN);
            assert_eq!(id == NONE, number >= LINKS_MAX);
        }
        assert_eq!(shapes.links.len(), 1 + LINKS_MAX);
        shapes.forget_if_full();
        assert_eq!((shapes.links.len(), shapes.by_text[0].len()), (1, 0));
    }
}

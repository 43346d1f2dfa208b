//! The values of records as they came, before anyone has read them.

/// Record values, end to end in one buffer.
#[derive(Debug, Default, Clone)]
pub struct Records {
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
}

/// Where one record's value lies in [`Records::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// A record without a value, which Kafka calls a tombstone.
    pub const TOMBSTONE: Span = Span { start: 0, len: u32::MAX };

    pub fn is_tombstone(self) -> bool {
        self.len == u32::MAX
    }
}

impl Records {
    pub fn push(&mut self, value: Option<&[u8]>) {
        let span = match value {
            None => Span::TOMBSTONE,
            Some(value) => {
                let start = u32::try_from(self.bytes.len()).expect("a batch is cut long before 4 GiB");
                self.bytes.extend_from_slice(value);
                Span { start, len: value.len() as u32 }
            }
        };
        self.spans.push(span);
    }

    pub fn value(&self, index: usize) -> Option<&[u8]> {
        let span = self.spans[index];
        (!span.is_tombstone()).then(|| &self.bytes[span.start as usize..(span.start + span.len) as usize])
    }
}

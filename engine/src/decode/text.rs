//! What lies between the quotes of a JSON string: which escapes are legal, and what they stand for.
//!
//! The bytes are known to be UTF-8. A lone surrogate is refused wherever it stands: no UTF-8 text can hold it.

/// A string that is not legal: the place within the text, and what is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextFault {
    pub at: usize,
    pub reason: &'static str,
}

/// Finds the closing quote of a string whose contents begin at `start`, checking everything before it.
pub(super) fn closing_quote(bytes: &[u8], start: usize) -> Result<usize, TextFault> {
    let mut at = start;
    loop {
        match bytes.get(at) {
            None => return Err(TextFault { at: bytes.len(), reason: "a string does not end" }),
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape(bytes, at)?.1,
            Some(0..0x20) => {
                return Err(TextFault { at, reason: "a control character in a string is not escaped" });
            }
            Some(_) => at += 1,
        }
    }
}

/// Appends what `contents` (the bytes between the quotes) stand for.
pub(super) fn unescape(contents: &[u8], out: &mut Vec<u8>) -> Result<(), TextFault> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &contents[at..]) {
        out.extend_from_slice(&contents[at..at + found]);
        let (character, next) = escape(contents, at + found)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at = next;
    }
    out.extend_from_slice(&contents[at..]);
    Ok(())
}

/// The character of the escape whose backslash is at `at`, and the place behind it.
pub(super) fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), TextFault> {
    let fault = |reason| Err(TextFault { at, reason });
    let character = match bytes.get(at + 1) {
        Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, at),
        _ => return fault("a backslash begins no legal escape"),
    };
    Ok((character, at + 2))
}

fn unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), TextFault> {
    let fault = |reason| TextFault { at, reason };
    let first = hex4(bytes, at + 2).ok_or(fault("\\u is not followed by four hex digits"))?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    let lone = fault("a surrogate without its other half");
    let second = match bytes.get(at + 6..at + 8) {
        Some(b"\\u") => hex4(bytes, at + 8).ok_or(lone)?,
        _ => return Err(lone),
    };
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return Err(lone);
    }
    let character = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)?;
    Ok((character, at + 12))
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let mut value = 0;
    for byte in bytes.get(at..at + 4)? {
        value = value << 4 | char::from(*byte).to_digit(16)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(contents: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let found = unescape(contents.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap());
        assert_eq!(found.ok().as_deref(), expected, "{contents}");
        let quoted = format!("{contents}\"");
        let end = closing_quote(quoted.as_bytes(), 0);
        assert_eq!(end.ok(), expected.map(|_| contents.len()), "{contents}");
    }

    #[test]
    fn escapes_mean_what_rfc_8259_says() {
        check("plain", Some("plain"));
        check(r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t"));
        check(r"\u0041\u00e9\u20AC\u0000", Some("Aé€\0"));
        check(r"a\ud83d\ude00b", Some("a😀b"));
        for refused in [
            r"\x",
            r"\",
            r"\u12",
            r"\u12g4",
            r"\ud83d",
            r"\ud83dx",
            r"\ud83d\n",
            r"\ud83d\ud83d",
            r"\ude00",
            r"\ude00\ud83d",
            r"\ud83d\u0041",
        ] {
            check(refused, None);
        }
        assert!(closing_quote(b"a\nb\"", 0).is_err());
        assert!(closing_quote(b"abc", 0).is_err());
    }
}

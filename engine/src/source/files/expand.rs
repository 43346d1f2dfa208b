//! Decompression by the piece, as a file's suffix says: bytes in, as many out as they hold.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use zstd::stream::{raw, zio};

/// Compressed bytes are fed in pieces of this size, so that a bomb cannot grow far before it is noticed.
const PIECE: usize = 4096;

/// One file's decompressor; what comes out is collected in [`Expand::output`].
pub(super) enum Expand {
    Plain(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<zio::Writer<Vec<u8>, raw::Decoder<'static>>>),
}

impl Expand {
    pub(super) fn of_name(name: &str) -> io::Result<Expand> {
        Ok(match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("gz") => Expand::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Some("zst") => Expand::Zstd(Box::new(zio::Writer::new(Vec::new(), raw::Decoder::new()?))),
            _ => Expand::Plain(Vec::new()),
        })
    }

    /// Takes in bytes from the front of `input` until some `enough` have come out of it.
    pub(super) fn feed(&mut self, input: &mut &[u8], enough: usize) -> io::Result<()> {
        while !input.is_empty() && self.output().len() < enough {
            let (piece, rest) = match self {
                Expand::Plain(_) => (*input, &[][..]),
                _ => input.split_at(PIECE.min(input.len())),
            };
            match self {
                Expand::Plain(output) => output.extend_from_slice(piece),
                Expand::Gzip(decoder) => decoder.write_all(piece)?,
                Expand::Zstd(decoder) => decoder.write_all(piece)?,
            }
            *input = rest;
        }
        Ok(())
    }

    /// To be called when all of the file has been fed: gives out the last, and notices if some of the file is missing.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Expand::Plain(_) => Ok(()),
            Expand::Gzip(decoder) => decoder.try_finish(),
            Expand::Zstd(decoder) => decoder.finish(),
        }
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Expand::Plain(output) => output,
            Expand::Gzip(decoder) => decoder.get_mut(),
            Expand::Zstd(decoder) => decoder.writer_mut(),
        }
    }
}

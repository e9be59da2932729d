//! Bytes that anyone can make again: the same length is the same bytes, and every position matters to the hash.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use sha2::{Digest, Sha256};

/// The size of the pieces that payloads are made and sent in.
pub const CHUNK: usize = 64 * 1024;

/// The chunks of the payload that is `length` bytes long; the last may be shorter than [`CHUNK`].
pub fn chunks(length: u64) -> impl Iterator<Item = Vec<u8>> + Send {
    let mut random = fastrand::Rng::with_seed(length);
    let mut left = length;
    std::iter::from_fn(move || {
        let mut chunk = vec![0; usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
        random.fill(&mut chunk);
        left -= chunk.len() as u64;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The SHA-256 of the payload that is `length` bytes long.
pub fn hash(length: u64) -> String {
    let mut hasher = Hasher::default();
    chunks(length).for_each(|chunk| hasher.update(&chunk));
    hasher.finish()
}

/// SHA-256, piece by piece, in hexadecimal.
#[derive(Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all pieces.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A payload as the body of an HTTP message.
pub struct Payload {
    chunks: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    left: u64,
}

impl Payload {
    /// The payload that is `length` bytes long.
    pub fn new(length: u64) -> Self {
        Self {
            chunks: Box::new(chunks(length)),
            left: length,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.next();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, chunks};

    #[test]
    fn a_payload_has_its_length_and_is_the_same_each_time() {
        for length in [0, 1, CHUNK as u64, 100_001] {
            let bytes: Vec<u8> = chunks(length).flatten().collect();
            assert_eq!(bytes.len() as u64, length);
            assert!(chunks(length).flatten().eq(bytes));
        }
    }
}

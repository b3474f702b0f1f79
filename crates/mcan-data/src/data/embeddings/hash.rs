//! The 64-bit keys under which spaCy files a string.

use super::symbols;

/// The seed of spaCy's string hash.
const SEED: u64 = 1;

/// The keys of a string, best first: the number of the symbol of this name if there is one, then the hash.
///
/// Both are needed: `_` is a symbol since version 3, so that a package of an older version has `_` under its hash.
pub(super) fn keys(text: &str) -> impl Iterator<Item = u64> {
    symbols::number(text)
        .into_iter()
        .chain([murmur64a(text.as_bytes(), SEED)])
}

/// MurmurHash64A by Austin Appleby (public domain), little-endian as in the `murmurhash` package that spaCy uses.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (blocks, tail) = bytes.as_chunks::<8>();
    for block in blocks {
        let mut k = u64::from_le_bytes(*block).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let last = tail
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> R)).wrapping_mul(M);
    hash ^ (hash >> R)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_hash_as_in_spacy() {
        // Keys of the StringStore of spaCy 3.8.
        let expected: [(&str, u64); 5] = [
            ("coffee", 3197928453018144401),
            ("a", 11901859001352538922),
            ("dog walks", 3938318534672920757),
            ("naïve", 16224804062388677344),
            ("1234567", 11906548768923648808),
        ];
        for (text, key) in expected {
            assert_eq!(murmur64a(text.as_bytes(), SEED), key, "{text}");
        }
    }

    #[test]
    fn a_symbol_is_tried_by_number_first_and_every_string_by_hash() {
        let hash = murmur64a(b"number", SEED);
        assert_eq!(keys("number").collect::<Vec<_>>(), [432, hash]);
        assert_eq!(keys("coffee").collect::<Vec<_>>(), [3197928453018144401]);
    }
}

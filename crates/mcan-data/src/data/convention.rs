//! The two conventions that a configuration can follow.

/// Which program's conventions hold, where the reference and OpenVQA differ: in the special words of a vocabulary, in
/// names of parameters and in some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// MILVLG/mcan-vqa.
    Reference,
    /// MILVLG/openvqa.
    OpenVqa,
}

impl Convention {
    /// The words at the beginning of a vocabulary, by id.
    pub fn special_words(self) -> &'static [&'static str] {
        match self {
            Convention::Reference => &["PAD", "UNK"],
            Convention::OpenVqa => &["PAD", "UNK", "CLS"],
        }
    }
}

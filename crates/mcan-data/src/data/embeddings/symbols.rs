//! The numbers of spaCy's symbols: attribute, part-of-speech, entity and dependency names.
//!
//! The key of a string that is the name of a symbol is the number of the symbol, not the hash of the string. The vectors
//! of ordinary words such as `number`, `mark` or `agent` are found only through this table. It has the names that have the
//! same number in spaCy 2.1, 2.3 and 3.8, and `_`, a symbol since 3.0. Other names (`Case_abe`, `IS_OOV` ...) are no words
//! of a question in lower case.

/// Runs of consecutive numbers: the number of the first name, then the names (`spacy/symbols.pxd`, MIT licence).
const RUNS: &[(u64, &str)] = &[
    (
        1,
        "IS_ALPHA IS_ASCII IS_DIGIT IS_LOWER IS_PUNCT IS_SPACE IS_TITLE IS_UPPER LIKE_URL LIKE_NUM \
         LIKE_EMAIL IS_STOP",
    ),
    (
        14,
        "IS_BRACKET IS_QUOTE IS_LEFT_PUNCT IS_RIGHT_PUNCT IS_CURRENCY FLAG19 FLAG20 FLAG21 FLAG22 FLAG23 \
         FLAG24 FLAG25 FLAG26 FLAG27 FLAG28 FLAG29 FLAG30 FLAG31 FLAG32 FLAG33 FLAG34 FLAG35 FLAG36 \
         FLAG37 FLAG38 FLAG39 FLAG40 FLAG41 FLAG42 FLAG43 FLAG44 FLAG45 FLAG46 FLAG47 FLAG48 FLAG49 \
         FLAG50 FLAG51 FLAG52 FLAG53 FLAG54 FLAG55 FLAG56 FLAG57 FLAG58 FLAG59 FLAG60 FLAG61 FLAG62 \
         FLAG63 ID ORTH LOWER NORM SHAPE PREFIX SUFFIX LENGTH CLUSTER LEMMA POS TAG DEP ENT_IOB ENT_TYPE \
         HEAD SENT_START SPACY PROB LANG ADJ ADP ADV AUX CONJ CCONJ DET INTJ NOUN NUM PART PRON PROPN \
         PUNCT SCONJ SYM VERB X EOL SPACE",
    ),
    (
        380,
        "PERSON NORP FACILITY ORG GPE LOC PRODUCT EVENT WORK_OF_ART LANGUAGE LAW DATE TIME PERCENT MONEY \
         QUANTITY ORDINAL CARDINAL acomp advcl advmod agent amod appos attr aux auxpass cc ccomp complm \
         conj cop csubj csubjpass dep det dobj expl hmod hyph infmod intj iobj mark meta neg nmod nn \
         npadvmod nsubj nsubjpass num number oprd obj obl parataxis partmod pcomp pobj poss possessive \
         preconj prep prt punct quantmod relcl rcmod root xcomp acl",
    ),
    (456, "_"),
];

/// The number of the symbol called `name`.
pub(super) fn number(name: &str) -> Option<u64> {
    RUNS.iter()
        .find_map(|&(first, names)| {
            (first..)
                .zip(names.split(' '))
                .find(|&(_, symbol)| symbol == name)
        })
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_name_symbols_have_their_numbers() {
        let known = [
            ("number", 432),
            ("num", 431),
            ("mark", 423),
            ("agent", 401),
            ("root", 449),
            ("det", 415),
        ];
        for (name, expected) in known {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        assert_eq!(
            (number("IS_ALPHA"), number("ORTH"), number("PERSON")),
            (Some(1), Some(65), Some(380))
        );
        assert_eq!(
            (number("SPACE"), number("acl"), number("_")),
            (Some(103), Some(451), Some(456))
        );
    }

    #[test]
    fn other_words_have_no_number() {
        assert!(
            ["", " ", "dog", "Number", "NUMBER", "PAD", "UNK"]
                .into_iter()
                .all(|word| number(word).is_none())
        );
    }
}

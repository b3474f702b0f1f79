//! The training targets of VQA-v2: the more annotators gave an answer, the more it is worth.

use crate::data::answers::{AnswerList, Target};
use crate::text::normalize_answer;
use rayon::prelude::*;

/// For every string, which answer it normalises to.
pub(super) fn indices_of<'a>(
    answers: &AnswerList,
    strings: impl IntoIterator<Item = &'a str>,
) -> Vec<Option<u32>> {
    let strings: Vec<_> = strings.into_iter().collect();
    strings
        .par_iter()
        .map(|string| answers.index(&normalize_answer(string)))
        .collect()
}

/// The targets of a question whose annotators gave these answers (`None` where an answer is not in the list), in order of
/// first appearance.
pub(super) fn targets(indices: impl IntoIterator<Item = Option<u32>>) -> Vec<Target> {
    let mut counts: Vec<(u32, usize)> = Vec::new();
    for index in indices.into_iter().flatten() {
        match counts.iter_mut().find(|(known, _)| *known == index) {
            Some((_, count)) => *count += 1,
            None => counts.push((index, 1)),
        }
    }
    counts
        .into_iter()
        .map(|(index, count)| (index, score(count)))
        .collect()
}

/// What an answer is worth that `count` annotators gave.
fn score(count: usize) -> f32 {
    match count {
        0 => 0.0,
        1 => 0.3,
        2 => 0.6,
        3 => 0.9,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_grow_with_the_annotators_who_agree_and_follow_first_appearance() {
        let indices = [
            Some(7),
            None,
            Some(2),
            Some(7),
            Some(1),
            Some(2),
            Some(2),
            Some(1),
            Some(1),
            Some(1),
            Some(3),
        ];
        assert_eq!(targets(indices), [(7, 0.6), (2, 0.9), (1, 1.0), (3, 0.3)]);
        assert_eq!(targets([None]), []);
    }
}

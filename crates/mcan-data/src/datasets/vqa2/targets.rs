//! The training targets of VQA-v2: the more annotators gave an answer, the more it is worth.

use crate::data::answers::{AnswerList, Target};
use crate::datasets::LossKind;
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

/// The targets for `loss` of a question whose annotators gave these answers (`None` where an answer is not in the list), in
/// order of first appearance: scores, or for the divergence shares of the annotators.
pub(super) fn targets(
    indices: impl IntoIterator<Item = Option<u32>>,
    loss: LossKind,
) -> Vec<Target> {
    let (mut counts, mut annotators): (Vec<(u32, usize)>, usize) = (Vec::new(), 0);
    for index in indices {
        annotators += 1;
        let Some(index) = index else {
            continue;
        };
        match counts.iter_mut().find(|(known, _)| *known == index) {
            Some((_, count)) => *count += 1,
            None => counts.push((index, 1)),
        }
    }
    let value = |count| match loss {
        LossKind::Divergence => count as f32 / annotators as f32,
        LossKind::BinaryCrossEntropy | LossKind::CrossEntropy => score(count),
    };
    counts
        .into_iter()
        .map(|(index, count)| (index, value(count)))
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
        let (scores, shares) = (LossKind::BinaryCrossEntropy, LossKind::Divergence);
        assert_eq!(
            targets(indices, scores),
            [(7, 0.6), (2, 0.9), (1, 1.0), (3, 0.3)]
        );
        let of_ten = &indices[..10];
        assert_eq!(
            targets(of_ten.iter().copied(), shares),
            [(7, 0.2), (2, 0.3), (1, 0.4)]
        );
        assert_eq!(targets([None], shares), []);
    }
}

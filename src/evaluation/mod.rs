//! VQA accuracy of answers, and the files that answers and probabilities are kept in.
//!
//! Works on answers alone and knows no model, so that any answer file can be scored. The numbers are those of the
//! reference's evaluator (VQA evaluation 2.0) to the last digit, its oddities included.

mod metric;
mod results;
mod score;

pub use metric::{Accuracy, Evaluator, Matching};
pub use results::{Answer, read_answers, write_answers, write_predictions};
pub use score::{ScoreReport, score};

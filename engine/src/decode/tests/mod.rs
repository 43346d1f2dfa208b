//! What the decoder is held to: the table of `docs/JSON.md` case by case (`meanings`), what a batch may take
//! (`memory`), and what comes of many records made from seeds (`differential`), by the word of judges that share no code
//! with it.

mod arrow_judge;
mod differential;
mod judge;
mod meanings;
mod memory;
mod mutations;
mod oracle;
pub mod samples;
mod values;

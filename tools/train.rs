//! Placeholder of the first commits.
fn main() {}

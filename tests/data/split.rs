use embedding_compressor::data::{Embeddings, Split};

#[test]
fn every_row_once_and_the_right_sizes() {
    for (rows, sizes) in
        [(10, [8, 1, 1]), (99, [79, 10, 10]), (1, [0, 0, 1]), (0, [0, 0, 0]), (100_000, [80_000, 10_000, 10_000])]
    {
        let split = Split::new(rows, 7);
        assert_eq!([split.train.len(), split.val.len(), split.test.len()], sizes);
        let mut all = [split.train, split.val, split.test].concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..rows as u32));
    }
}

#[test]
fn the_split_of_a_seed_never_changes() {
    let split = Split::new(20, 42);
    assert_eq!(split.train, GOLDEN_TRAIN);
    assert_eq!((&split.val[..], &split.test[..]), (&GOLDEN_VAL[..], &GOLDEN_TEST[..]));
    assert_ne!(Split::new(20, 43), split);
}

#[test]
fn values_in_memory_are_checked_like_files() {
    let good = Embeddings::from_values(2, 2, vec![1.0, 2.0, 3.0, 4.0], "test").unwrap();
    assert_eq!(good.row(1), [3.0, 4.0]);
    let same_values = Embeddings::from_values(1, 4, vec![1.0, 2.0, 3.0, 4.0], "test").unwrap();
    assert_ne!(good.fingerprint, same_values.fingerprint, "the shape belongs to the fingerprint");
    assert!(Embeddings::from_values(2, 2, vec![1.0; 3], "test").is_err());
    assert!(Embeddings::from_values(0, 2, vec![], "test").is_err());
    assert!(Embeddings::from_values(1, 2, vec![0.0, f32::NAN], "test").is_err());
}

const GOLDEN_TRAIN: [u32; 16] = [1, 3, 11, 12, 0, 6, 19, 17, 8, 5, 14, 9, 16, 15, 2, 4];
const GOLDEN_VAL: [u32; 2] = [10, 7];
const GOLDEN_TEST: [u32; 2] = [18, 13];

// Whether an element survives dropout: a hash of the step's seed and the element's index (lowbias32, Wellons 2018) against a
// threshold of 2^32 times the rate.
fn survives(seed: u32, index: u32, threshold: u32) -> bool {
    var x = index * 0x9e3779b9u + seed;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return (x ^ (x >> 16u)) >= threshold;
}

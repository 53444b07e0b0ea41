// Index of a workgroup in a grid folded by `flat_grid`: counts above 65,535 spread over x and y.
fn flat_workgroup(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

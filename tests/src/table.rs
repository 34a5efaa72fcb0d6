//! Combinations of choices.

/// Rows of a table, each with a value for every column, column `i` having `sizes[i]` values: every pair of values of
/// two columns is in a row. Nearly as few as can be, and always the same.
pub fn pairs(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut open = Vec::new();
    for (b, &size) in sizes.iter().enumerate() {
        for (a, &before) in sizes[..b].iter().enumerate() {
            open.extend((0..before).flat_map(|x| (0..size).map(move |y| ((a, x), (b, y)))));
        }
    }
    let mut rows = Vec::new();
    while let Some(&((a, x), (b, y))) = open.first() {
        let mut row = vec![None; sizes.len()];
        (row[a], row[b]) = (Some(x), Some(y));
        for column in 0..sizes.len() {
            if row[column].is_none() {
                // The value that is in most of the pairs still open with what the row has.
                let gain = |value: usize| {
                    let has = |(c, v): (usize, usize)| row[c] == Some(v);
                    let new = (column, value);
                    open.iter()
                        .filter(|(p, q)| (*p == new && has(*q)) || (*q == new && has(*p)))
                        .count()
                };
                row[column] = (0..sizes[column]).rev().max_by_key(|&value| gain(value));
            }
        }
        let row: Vec<usize> = row.into_iter().map(Option::unwrap_or_default).collect();
        open.retain(|((a, x), (b, y))| row[*a] != *x || row[*b] != *y);
        rows.push(row);
    }
    rows
}

/// Every row that there is.
pub fn all(sizes: &[usize]) -> Vec<Vec<usize>> {
    let longer = |rows: Vec<Vec<usize>>, &size: &usize| {
        let with = |row: Vec<usize>| (0..size).map(move |value| [&row[..], &[value]].concat());
        rows.into_iter().flat_map(with).collect()
    };
    sizes.iter().fold(vec![Vec::new()], longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_in_a_row() {
        for (sizes, most) in [(&[7, 6, 3, 5, 2, 2, 2][..], 50), (&[2, 2, 2], 5), (&[3, 1], 3)] {
            let rows = pairs(sizes);
            assert!(rows.len() <= most, "{} rows", rows.len());
            for wanted in all(sizes) {
                for a in 0..sizes.len() {
                    for b in 0..a {
                        let has = |row: &&Vec<usize>| row[a] == wanted[a] && row[b] == wanted[b];
                        assert!(rows.iter().any(|row| has(&row)), "{a} and {b} of {wanted:?}");
                    }
                }
            }
        }
        assert_eq!(all(&[2, 1, 2]), [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]);
    }
}

// Places cells in rows near where they would like to be, then swaps and moves them for shorter wires, colder and colder.
//
// In: columns, rows, site, row height, moves of each cell, 0 if only those that make wires shorter; widths in sites; x and y of the wishes; where each net's pins begin; of
// each pin its cell or -1, and its x and y from the cell's corner, or from the core's. Out: column and row of each cell; the wire
// length in um before and after.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "arrays.hpp"

static int columns, rows, site, height;
static Array width, column, row, starts, pin_cell, pin_x, pin_y;
static std::vector<Array> nets_of;  // of each cell

// Rows as Abacus fills them: cells that would overlap become a cluster, which stands where the sum of its cells' squared moves is
// least.
struct Cluster { double weight, sum; int sites, first; };
struct Row {
    std::vector<Cluster> clusters;
    Array cells;
    int used = 0;

    static double place(const Cluster& c) { return std::clamp(c.sum / c.weight, 0.0, double(columns - c.sites)); }

    // The column that a cell gets; `keep` puts it there.
    double add(int cell, double wish, bool keep) {
        Cluster c{1, wish, width[cell], int(cells.size())};
        int last = int(clusters.size()) - 1;
        while (last >= 0 && place(clusters[last]) + clusters[last].sites > place(c)) {
            const Cluster& before = clusters[last--];
            c = {before.weight + c.weight, before.sum + c.sum - c.weight * before.sites, before.sites + c.sites, before.first};
        }
        const double found = place(c) + c.sites - width[cell];
        if (keep) {
            clusters.resize(last + 1);
            clusters.push_back(c);
            cells.push_back(cell);
            used += width[cell];
        }
        return found;
    }
};

static void legalize(const Array& wish_x, const Array& wish_y) {
    std::vector<Row> lines(rows);
    Array order(width.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return wish_x[a] < wish_x[b]; });
    for (int cell : order) {
        const double x = double(wish_x[cell]) / site, y = double(wish_y[cell]) / height;
        double best = 1e300;
        int chosen = -1;
        for (int away = 0; away < rows; away++)
            for (int side : {-1, 1}) {
                const int r = std::clamp(int(std::lround(y)), 0, rows - 1) + side * away;
                if ((side > 0 && !away) || r < 0 || r >= rows || lines[r].used + width[cell] > columns) continue;
                const double up = std::abs(r - y) * height;
                if (up >= best) continue;
                const double cost = up + std::abs(lines[r].add(cell, x, false) - x) * site;
                if (cost < best) { best = cost; chosen = r; }
            }
        if (chosen < 0) { std::fprintf(stderr, "the rows are full"); std::exit(1); }
        lines[chosen].add(cell, x, true);
        row[cell] = chosen;
    }
    for (const Row& line : lines) {
        size_t next = 0;
        int end = 0;
        for (size_t c = 0; c < line.clusters.size(); c++) {
            int x = std::max(end, int(std::floor(Row::place(line.clusters[c]))));
            const size_t until = c + 1 < line.clusters.size() ? line.clusters[c + 1].first : line.cells.size();
            for (; next < until; next++) { column[line.cells[next]] = x; x += width[line.cells[next]]; }
            end = x;
        }
    }
}

static double length(int net) {
    int x1 = 1 << 30, x2 = -(1 << 30), y1 = 1 << 30, y2 = -(1 << 30);
    for (int p = starts[net]; p < starts[net + 1]; p++) {
        const int c = pin_cell[p], x = pin_x[p] + (c < 0 ? 0 : column[c] * site), y = pin_y[p] + (c < 0 ? 0 : row[c] * height);
        x1 = std::min(x1, x); x2 = std::max(x2, x); y1 = std::min(y1, y); y2 = std::max(y2, y);
    }
    return double(x2 - x1) + (y2 - y1);
}

struct Refinement {
    std::vector<Array> taken;  // of every row and site, the cell or -1
    Random random;
    std::vector<double> known;
    Array touched;

    Refinement() : taken(rows, Array(columns, -1)) {
        for (size_t c = 0; c < width.size(); c++) mark(int(c), int(c));
        for (size_t n = 0; n + 1 < starts.size(); n++) known.push_back(length(int(n)));
    }
    double total() const { return std::accumulate(known.begin(), known.end(), 0.0); }
    void mark(int cell, int value) { std::fill_n(taken[row[cell]].begin() + column[cell], width[cell], value); }
    bool free(int r, int c, int sites, int a, int b) const {
        if (c < 0 || c + sites > columns) return false;
        for (int k = c; k < c + sites; k++)
            if (const int t = taken[r][k]; t >= 0 && t != a && t != b) return false;
        return true;
    }

    // Where the nets of a cell would have it: the middle of their other pins' bounds.
    void wish(int cell, int& c, int& r) {
        double x = 0, y = 0;
        int count = 0;
        for (int net : nets_of[cell]) {
            int x1 = 1 << 30, x2 = -(1 << 30), y1 = 1 << 30, y2 = -(1 << 30);
            for (int p = starts[net]; p < starts[net + 1]; p++) {
                const int o = pin_cell[p];
                if (o == cell) continue;
                const int px = pin_x[p] + (o < 0 ? 0 : column[o] * site), py = pin_y[p] + (o < 0 ? 0 : row[o] * height);
                x1 = std::min(x1, px); x2 = std::max(x2, px); y1 = std::min(y1, py); y2 = std::max(y2, py);
            }
            if (x2 < x1) continue;
            const double t = random.unit(), u = random.unit();
            x += x1 + t * (x2 - x1);
            y += y1 + u * (y2 - y1);
            count++;
        }
        c = count ? int(x / count / site) - width[cell] / 2 : column[cell];
        r = count ? int(y / count / height) : row[cell];
    }

    // Moves cells a and b, the second perhaps -1, if that is short enough at this temperature.
    void attempt(int a, int ca, int ra, int b, int cb, int rb, double heat) {
        const int old[4] = {column[a], row[a], b < 0 ? 0 : column[b], b < 0 ? 0 : row[b]};
        touched.clear();
        touched.insert(touched.end(), nets_of[a].begin(), nets_of[a].end());
        if (b >= 0) touched.insert(touched.end(), nets_of[b].begin(), nets_of[b].end());
        std::sort(touched.begin(), touched.end());
        touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
        mark(a, -1);
        if (b >= 0) mark(b, -1);
        column[a] = ca; row[a] = ra;
        if (b >= 0) { column[b] = cb; row[b] = rb; }
        double change = 0;
        for (int net : touched) change += length(net) - known[net];
        if (change >= 0 && (heat <= 0 || random.unit() >= std::exp(-change / heat))) {
            column[a] = old[0]; row[a] = old[1];
            if (b >= 0) { column[b] = old[2]; row[b] = old[3]; }
        } else {
            for (int net : touched) known[net] = length(net);
        }
        mark(a, a);
        if (b >= 0) mark(b, b);
    }

    void move(int a, int reach, double heat) {
        int c, r;
        wish(a, c, r);
        r = std::clamp(r + random.below(2 * reach + 1) - reach, 0, rows - 1);
        c = std::clamp(c + (random.below(2 * reach + 1) - reach) * height / site, 0, columns - width[a]);
        const int b = taken[r][c];
        if (b == a) return;
        if (b < 0) {
            while (c > 0 && taken[r][c - 1] < 0 && !free(r, c, width[a], a, -1)) c--;
            if (free(r, c, width[a], a, -1)) attempt(a, c, r, -1, 0, 0, heat);
            return;
        }
        if (r == row[a]) {  // neighbours may change places whatever their widths
            const int left = column[a] < column[b] ? a : b, right = a + b - left;
            if (free(r, column[left], column[right] + width[right] - column[left], a, b)) {
                const int end = column[right] + width[right];
                const int at_left = end - width[left], at_right = column[left];
                if (left == a) attempt(a, at_left, r, b, at_right, r, heat);
                else attempt(a, at_right, r, b, at_left, r, heat);
                return;
            }
        }
        int ca = column[b], cb = column[a];
        const int ra = row[b], rb = row[a];
        if (width[a] != width[b]) {
            while (ca > 0 && !free(ra, ca, width[a], b, -1) && taken[ra][ca - 1] < 0) ca--;
            while (cb > 0 && !free(rb, cb, width[b], a, -1) && taken[rb][cb - 1] < 0) cb--;
            if (!free(ra, ca, width[a], b, -1) || !free(rb, cb, width[b], a, -1)) return;
            if (ra == rb && ca < cb + width[b] && cb < ca + width[a]) return;
        }
        attempt(a, ca, ra, b, cb, rb, heat);
    }
};

int main(int, char** argv) {
    auto in = read_arrays(argv[1]);
    columns = in[0][0]; rows = in[0][1]; site = in[0][2]; height = in[0][3];
    const long long moves = in[0][4];
    const double hot = 4.0 * height * in[0][5];
    width = in[1]; starts = in[4]; pin_cell = in[5]; pin_x = in[6]; pin_y = in[7];
    const int cells = int(width.size());
    column.assign(cells, 0); row.assign(cells, 0); nets_of.resize(cells);
    for (size_t n = 0; n + 1 < starts.size(); n++)
        for (int p = starts[n]; p < starts[n + 1]; p++)
            if (const int c = pin_cell[p]; c >= 0 && (nets_of[c].empty() || nets_of[c].back() != int(n))) nets_of[c].push_back(int(n));
    legalize(in[2], in[3]);
    Refinement refinement;
    const double before = refinement.total();
    const long long total = moves * cells;
    for (long long k = 0; k < total; k++) {
        const double left = 1 - double(k) / double(total);
        refinement.move(refinement.random.below(cells), 1 + int(6 * left * left), std::max(0.0, hot * (left - 0.15) * left));
    }
    write_arrays(argv[2], {column, row, {int(before / 1000), int(refinement.total() / 1000)}});
}

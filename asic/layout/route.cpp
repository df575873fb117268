// Routes nets on a grid of vertical and horizontal metals by negotiated congestion: every net takes its cheapest way, points that
// several want become dearer, until no two nets meet.
//
// Two nets may neither share a point nor stand on neighbouring points of a track, where their ends would be too near. A wire has at
// least one step on a metal, for the least area. In: columns, rows, metals, most sweeps; points that are blocked; where the
// terminals of each net begin; where the points of each terminal begin; these points; a second point that each takes, or -1.
// Out: edges as pairs of points; where those of each net begin; the point that each terminal got, as its number there; sweeps, and
// points that are still wanted by several.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "arrays.hpp"

constexpr float VIA = 4, MEETING = 4;
static int nx, ny, metals, points;
static Array net_terms, term_points, choice, beside;

struct Net {
    Array tree, edges, chosen;  // points that it takes; pairs; of each terminal
    int bounds[4];
};

static std::vector<Net> nets;
static Array taken, reserved;  // by how many nets; the only net that may stand there, or -1; -2 is nobody
static std::vector<float> history;
static float pressure = 0.5f;

static bool vertical(int metal) { return metal % 2 == 0; }
static int metal_of(int p) { return p / (nx * ny); }
static int column_of(int p) { return p % nx; }
static int row_of(int p) { return p / nx % ny; }
static int step(int p) { return vertical(metal_of(p)) ? nx : 1; }
static bool has_before(int p) { return (vertical(metal_of(p)) ? row_of(p) : column_of(p)) > 0; }
static bool has_after(int p) { return vertical(metal_of(p)) ? row_of(p) < ny - 1 : column_of(p) < nx - 1; }

static Array mine;  // of each point, the net that is looked at
static int others(int p, int net) { return taken[p] - (mine[p] == net) + 20 * (reserved[p] >= 0 && reserved[p] != net); }
static int meeting(int p, int net) {
    return others(p, net) + (has_before(p) ? others(p - step(p), net) : 0) + (has_after(p) ? others(p + step(p), net) : 0);
}

static std::vector<float> cost;
static Array from, seen, goal;
static int search = 0;

struct Item {
    float estimate;
    int state;
    bool operator<(const Item& other) const { return estimate > other.estimate; }
};

static void take(int n, int p) {
    if (mine[p] == n) return;
    mine[p] = n;
    taken[p]++;
    nets[n].tree.push_back(p);
}

// Connects terminal t to the tree of net n, or to terminal `first` if that is not -1, within `margin` points around both.
static bool connect(int n, int t, int first, int margin) {
    Net& net = nets[n];
    search++;
    int x1 = nx, x2 = 0, y1 = ny, y2 = 0, low = metals;
    for (int k = term_points[t]; k < term_points[t + 1]; k++) {
        goal[choice[k]] = search;
        x1 = std::min(x1, column_of(choice[k])); x2 = std::max(x2, column_of(choice[k]));
        y1 = std::min(y1, row_of(choice[k])); y2 = std::max(y2, row_of(choice[k]));
        low = std::min(low, metal_of(choice[k]));
    }
    int wx1 = x1, wx2 = x2, wy1 = y1, wy2 = y2;
    auto widen = [&](int p) {
        wx1 = std::min(wx1, column_of(p)); wx2 = std::max(wx2, column_of(p));
        wy1 = std::min(wy1, row_of(p)); wy2 = std::max(wy2, row_of(p));
    };
    if (first >= 0) for (int k = term_points[first]; k < term_points[first + 1]; k++) widen(choice[k]);
    else for (int p : net.tree) widen(p);
    wx1 -= margin; wx2 += margin; wy1 -= margin; wy2 += margin;

    std::priority_queue<Item> open;
    auto push = [&](int state, float value, int before) {
        if (seen[state] == search && cost[state] <= value) return;
        seen[state] = search;
        cost[state] = value;
        from[state] = before;
        const int p = state >> 1, x = column_of(p), y = row_of(p);
        const int away = std::max({x1 - x, x - x2, 0}) + std::max({y1 - y, y - y2, 0});
        open.push({value + away + VIA * std::abs(metal_of(p) - low), state});
    };
    // A state is a point, and whether a via has just reached it, from where a wire must go on.
    if (first >= 0) {
        for (int k = term_points[first]; k < term_points[first + 1]; k++)
            push(choice[k] * 2 + 1, pressure * MEETING * (meeting(choice[k], n) + (beside[k] < 0 ? 0 : meeting(beside[k], n)))
                 + 0.2f * (k - term_points[first]), -1);
    } else {
        for (int p : net.tree) push(p * 2, 0, -1);
    }
    while (!open.empty()) {
        const Item item = open.top();
        open.pop();
        const int state = item.state, p = state >> 1;
        const int x = column_of(p), y = row_of(p), m = metal_of(p);
        if (item.estimate > cost[state] + std::max({x1 - x, x - x2, 0}) + std::max({y1 - y, y - y2, 0}) + VIA * std::abs(m - low) + 1e-3f)
            continue;
        if (goal[p] == search && !(state & 1)) {
            for (int s = state; s >= 0; s = from[s]) {
                take(n, s >> 1);
                if (from[s] >= 0) { net.edges.push_back(from[s] >> 1); net.edges.push_back(s >> 1); }
                else if (first >= 0) {
                    for (int k = term_points[first]; k < term_points[first + 1]; k++)
                        if (choice[k] == s >> 1) { net.chosen[first - net_terms[n]] = k; break; }
                }
            }
            for (int k = term_points[t]; k < term_points[t + 1]; k++)
                if (choice[k] == p) { net.chosen[t - net_terms[n]] = k; break; }
            return true;
        }
        auto go = [&](int to, int via, float length) {
            if (reserved[to] == -2) return;
            const int tx = column_of(to), ty = row_of(to);
            if (tx < wx1 || tx > wx2 || ty < wy1 || ty > wy2) return;
            push(to * 2 + via, cost[state] + length * (1 + history[to]) + pressure * MEETING * meeting(to, n), state);
        };
        if (has_before(p)) go(p - step(p), 0, 1);
        if (has_after(p)) go(p + step(p), 0, 1);
        if (!(state & 1)) {
            if (m > 0) go(p - nx * ny, 1, VIA);
            if (m < metals - 1) go(p + nx * ny, 1, VIA);
        }
    }
    return false;
}

static bool route(int n, int sweep) {
    Net& net = nets[n];
    for (int p : net.tree) { taken[p]--; mine[p] = -1; }
    net.tree.clear();
    net.edges.clear();
    const int begin = net_terms[n], count = net_terms[n + 1] - begin;
    net.chosen.assign(count, -1);
    std::vector<int> near(count, 0), distance(count, 1 << 30);
    std::vector<char> done(count, 0);
    done[0] = 1;
    int last = 0;
    for (int k = 1; k < count; k++) {
        int next = -1;
        for (int t = 0; t < count; t++) {
            if (done[t]) continue;
            const int a = choice[term_points[begin + t]], b = choice[term_points[begin + last]];
            distance[t] = std::min(distance[t], std::abs(column_of(a) - column_of(b)) + std::abs(row_of(a) - row_of(b)));
            if (next < 0 || distance[t] < distance[next]) next = t;
        }
        const int first = k == 1 ? begin : -1;
        if (!connect(n, begin + next, first, 8 + 4 * sweep) && !connect(n, begin + next, first, nx + ny)) return false;
        done[next] = 1;
        last = next;
    }
    for (int k : net.chosen) if (beside[k] >= 0) take(n, beside[k]);
    return true;
}

int main(int, char** argv) {
    auto in = read_arrays(argv[1]);
    nx = in[0][0]; ny = in[0][1]; metals = in[0][2];
    const int most = in[0][3];
    net_terms = in[2]; term_points = in[3]; choice = in[4]; beside = in[5];
    points = nx * ny * metals;
    const int count = int(net_terms.size()) - 1;
    nets.resize(count);
    taken.assign(points, 0); reserved.assign(points, -1); mine.assign(points, -1); goal.assign(points, 0);
    history.assign(points, 0);
    cost.assign(2 * points, 0); from.assign(2 * points, -1); seen.assign(2 * points, 0);
    Array clash(points, 0);
    for (int n = 0; n < count; n++)
        for (int t = net_terms[n]; t < net_terms[n + 1]; t++)
            if (term_points[t + 1] - term_points[t] == 1) {
                const int k = term_points[t];
                for (int p : {choice[k], beside[k]}) if (p >= 0) reserved[p] = n;
            }
    for (int p : in[1]) reserved[p] = -2;
    Array order(count);
    std::iota(order.begin(), order.end(), 0);
    Random random;
    int sweep = 0, left = 0;
    for (; sweep < most; sweep++) {
        for (int n : order) {
            bool again = nets[n].tree.empty();
            if (!again) {
                for (int p : nets[n].tree) mine[p] = n;
                again = std::any_of(nets[n].tree.begin(), nets[n].tree.end(), [&](int p) { return meeting(p, n); });
            }
            if (again && !route(n, sweep)) {
                std::fprintf(stderr, "net %d cannot reach its pins", n);
                return 1;
            }
            for (int p : nets[n].tree) mine[p] = -1;
        }
        left = 0;
        for (int n = 0; n < count; n++) {
            for (int p : nets[n].tree) mine[p] = n;
            for (int p : nets[n].tree)
                if (meeting(p, n)) { left++; history[p] += pressure; }
            for (int p : nets[n].tree) mine[p] = -1;
        }
        if (!left) { sweep++; break; }
        pressure = std::min(pressure * 1.3f, 60.0f);
        for (int k = count - 1; k > 0; k--) std::swap(order[k], order[random.below(k + 1)]);
    }
    Array edges, starts{0}, chosen;
    for (int n = 0; n < count; n++) {
        edges.insert(edges.end(), nets[n].edges.begin(), nets[n].edges.end());
        starts.push_back(int(edges.size()));
        for (int t = 0; t < int(nets[n].chosen.size()); t++) chosen.push_back(nets[n].chosen[t] - term_points[net_terms[n] + t]);
    }
    write_arrays(argv[2], {edges, starts, chosen, {sweep, left}});
}

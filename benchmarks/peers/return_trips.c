/* Return trips on one core, the peer that the Spark engines are measured against and checked with.
 *
 * Trip b is a return of trip a when 0 < b.pickup - a.dropoff < window and the haversines between
 * a.dropoff and b.pickup and between a.pickup and b.dropoff are both below the radius.
 *
 * Time is cut into slabs so short that all of a slab stays in the cache. The returns of a slab are
 * sorted by the cell of the pickup, then by the row of the drop-off (a band of latitude), then by
 * its longitude. A window of sorted returns slides over the slabs: those that begin too early for
 * the next outbound trips are dropped and the next slab's are merged in. So each trip is sorted
 * once as a return and once as an outbound trip, always in the cache.
 *
 * An outbound trip looks up the few pickup cells near its drop-off and, in each, the few stretches
 * of longitude near its pickup. A stretch is as wide as the disc is at that row, so it holds little
 * else. Distances are tested as chords between points in metres, in single precision about the
 * centre of all points, and only what lies within the rounding error of the radius is decided by
 * the haversine. Nothing depends on the latitude: a row near a pole has few cells, the disc over a
 * pole spans the whole row, and longitude is a circle.
 *
 * cc -O3 -march=native -fno-math-errno -fno-trapping-math -shared -fPIC -o return_trips.so return_trips.c -lm
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EARTH_RADIUS_M 6371000.0
#define RADIX_BITS 11
#define RADIX (1u << RADIX_BITS)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef struct { uint64_t key; uint32_t x; } entry;                                 /* x: place in its slab */
typedef struct { float x, y, z; } point;                                            /* metres from the centre */
typedef struct { double lat, turn, cos_lat; point at; } spot;                       /* one end of a trip */
typedef struct { point pickup, dropoff; int64_t at; uint32_t trip; } inbound;       /* a return, begins at `at` */
typedef struct { spot pickup, dropoff; int64_t at; uint32_t trip; } outbound;       /* ends at `at` */
typedef struct { uint64_t place; uint32_t from, to; int32_t row, rows; uint32_t starts; } slot; /* returns of a cell */
typedef struct { int64_t lo, hi; } stretch;
typedef struct { double south, height; int64_t rows; double *cos_min; } bands;

typedef struct { /* how the earth is cut */
  double cx, cy, cz, seam;      /* the centre of all points; the meridian opposite it, where turns begin */
  bands p, d; double *cols;     /* rows of pickup cells and how many cells go round each; rows of drop-offs */
  int64_t col0, col1;           /* the columns that hold pickups */
  double lo, steps; int64_t last; /* turns of drop-offs, from lo, are counted in steps 0 .. last */
  int col_bits, lon_bits, low_bits; /* a key is a place (row, column) above low_bits (drop-off row, step) */
} grid;

static const double RAD = M_PI / 180;

/* Sine and cosine of degrees by their series about the nearest quarter turn, to the last bits of a
 * double. Without a branch, so that the compiler works on several at once. */
static inline void sincos_degrees(double degrees, double *sine, double *cosine) {
  double quarter = floor(degrees / 90 + 0.5), x = (degrees - 90 * quarter) * RAD, y = x * x;
  double s = x * (1 - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156 * (1 - y / 210)))))));
  double c = 1 - y / 2 * (1 - y / 12 * (1 - y / 30 * (1 - y / 56 * (1 - y / 90 * (1 - y / 132 * (1 - y / 182 * (1 - y / 240)))))));
  double q = quarter - 4 * floor(quarter / 4), a = q == 1 || q == 3 ? c : s, b = q == 1 || q == 3 ? s : c;
  *sine = q >= 2 ? -a : a; *cosine = q == 1 || q == 2 ? -b : b;
}

static inline double turn_of(double lon, double seam) { /* share of the circle east of the seam, [0, 1) */
  double x = (lon - seam) / 360; x -= floor(x);
  return x < 1 ? x : 0;
}

static double haversine_m(double lat1, double lon1, double lat2, double lon2) {
  double p = sin((lat2 - lat1) * RAD / 2), q = sin((lon2 - lon1) * RAD / 2);
  double h = sqrt(p * p + cos(lat1 * RAD) * cos(lat2 * RAD) * q * q);
  return 2 * EARTH_RADIUS_M * asin(h < 1 ? h : 1);
}

static entry *sorted(entry *a, entry *b, int64_t n, int from_bit, int to_bit) {
  for (int shift = from_bit; shift < to_bit; shift += RADIX_BITS) {
    uint32_t at[RADIX + 1] = {0};
    for (int64_t i = 0; i < n; i++) at[((a[i].key >> shift) & (RADIX - 1)) + 1]++;
    for (uint32_t i = 0; i < RADIX; i++) at[i + 1] += at[i];
    for (int64_t i = 0; i < n; i++) b[at[(a[i].key >> shift) & (RADIX - 1)]++] = a[i];
    entry *swap = a; a = b; b = swap;
  }
  return a;
}

static int bits_of(uint64_t n) { int b = 0; while (n >> b) b++; return b; }

static inline int64_t row_of(const bands *g, double lat) {
  double row = floor((lat - g->south) / g->height);
  return row < 0 ? 0 : row >= g->rows ? g->rows - 1 : (int64_t)row;
}

static inline uint64_t place_of(const grid *g, double lat, double turn) { /* cells without pickups count as the nearest column */
  int64_t row = row_of(&g->p, lat), c = (int64_t)(turn * g->cols[row]);
  c = MIN(c, (int64_t)g->cols[row] - 1);
  return (uint64_t)row << g->col_bits | (uint64_t)(MIN(MAX(c, g->col0), g->col1) - g->col0);
}

static inline int64_t step_of(const grid *g, double turn) { return (int64_t)floor((turn - g->lo) * g->steps); }

/* cos_min: the least cosine of any latitude in the row, made a hair smaller against rounding. */
static int make_bands(bands *g, double south, double north, double height) {
  g->south = south; g->height = height; g->rows = (int64_t)((north - south) / height) + 1;
  double *c = g->cos_min = malloc(g->rows * sizeof *c);
  if (!c) return 0;
  for (int64_t i = 0; i < g->rows; i++) {
    double a = fabs(south + i * height), b = fabs(south + (i + 1) * height), far = (a > b ? a : b) + 1e-9;
    c[i] = far >= 90 ? 0 : cos(far * RAD);
  }
  return 1;
}

/* Half the longitudes, as a share of the circle, of the disc round `lat` within one row: 0.5 spans
 * the circle, below 0 none. From the haversine: sin^2(dlon/2) <= (sin^2(r/2) - sin^2(dlat/2)) /
 * (cos lat1 cos lat2), with the nearest latitude and the least cosine of the row; asin(x) <= x + 0.571 x^3. */
static inline double half_turn(const bands *g, int64_t row, double lat, double cos_lat, double sin2_r) {
  double low = g->south + row * g->height, high = low + g->height, away = lat < low ? low - lat : lat > high ? lat - high : 0;
  double s = away > 1e-9 ? (away - 1e-9) * (RAD / 2) : 0, left = sin2_r;
  if (s > 0) { double t = s < 1e-3 ? s * (1 - s * s / 6) : sin(s); left -= t * t; }
  if (left < 0) return -1;
  double under = cos_lat * g->cos_min[row];
  if (left >= under) return 0.5;
  double x = sqrt(left / under);
  double half = 2 * (x + 0.571 * x * x * x) / (2 * M_PI) * (1 + 1e-9) + 1e-13;
  return half < 0.5 ? half : 0.5;
}

/* One end of each of a slab's trips. In blocks, so that what is between the loops stays near. */
static void spots_of(const grid *g, const uint32_t *trips, int64_t n, const double *lats, const double *lons, spot *out) {
  enum { BLOCK = 256 };
  double lat[BLOCK], lon[BLOCK], turn[BLOCK], sin_lat[BLOCK], cos_lat[BLOCK], sin_lon[BLOCK], cos_lon[BLOCK];
  for (; n > 0; n -= BLOCK, trips += BLOCK, out += BLOCK) {
    int m = MIN(n, BLOCK);
    for (int x = 0; x < m; x++) { lat[x] = lats[trips[x]]; lon[x] = lons[trips[x]]; }
    for (int x = 0; x < m; x++) turn[x] = turn_of(lon[x], g->seam);
    for (int x = 0; x < m; x++) sincos_degrees(lat[x], sin_lat + x, cos_lat + x);
    for (int x = 0; x < m; x++) sincos_degrees(lon[x], sin_lon + x, cos_lon + x);
    for (int x = 0; x < m; x++) out[x] = (spot){lat[x], turn[x], cos_lat[x],
        {(float)((cos_lat[x] * cos_lon[x] - g->cx) * EARTH_RADIUS_M), (float)((cos_lat[x] * sin_lon[x] - g->cy) * EARTH_RADIUS_M),
         (float)((sin_lat[x] - g->cz) * EARTH_RADIUS_M)}};
  }
}

/* The number of pairs; the first `cap` of them as rows of the input in out_a, out_b. Times in any one
 * unit, coordinates in finite degrees. -1 where memory ends, -2 where an area is too wide for its cells. */
int64_t return_trips(int64_t n, const int64_t *pickup, const int64_t *dropoff, const double *plat, const double *plon,
                     const double *dlat, const double *dlon, double radius_m, int64_t window, int64_t cap,
                     uint32_t *out_a, uint32_t *out_b, double cell_m, double band_m, int64_t slabs_per_window) {
  if (n == 0 || !(radius_m > 0) || window <= 1) return 0;
  int64_t count = -1, *as = 0, *bs = 0, *fill = 0; uint32_t *al = 0, *bl = 0, *starts = 0; grid g = {0};
  entry *e = 0, *f = 0; spot *from = 0, *to = 0; outbound *A = 0; inbound *N = 0, *W = 0, *V = 0; uint64_t *keys = 0, *keys2 = 0; slot *slots = 0; stretch *st = 0;

  /* The centre, of a sample: it only decides how fine the rounding is. Then what the trips span. */
  for (int64_t i = 0, m = 0; i < n; i += n / 65536 + 1) {
    double a = plat[i] * RAD, b = plon[i] * RAD, c = dlat[i] * RAD, d = dlon[i] * RAD, k = 1.0 / ++m;
    g.cx += ((cos(a) * cos(b) + cos(c) * cos(d)) / 2 - g.cx) * k;
    g.cy += ((cos(a) * sin(b) + cos(c) * sin(d)) / 2 - g.cy) * k;
    g.cz += ((sin(a) + sin(c)) / 2 - g.cz) * k;
  }
  g.seam = atan2(g.cy, g.cx) / RAD - 180;
  double south = 90, north = -90, p_lo = 1, p_hi = 0, d_lo = 1, d_hi = 0; int64_t t0 = INT64_MAX, t1 = INT64_MIN;
  for (int64_t i = 0; i < n; i++) {
    double s = MIN(plat[i], dlat[i]), t = MAX(plat[i], dlat[i]), p = turn_of(plon[i], g.seam), d = turn_of(dlon[i], g.seam);
    south = MIN(south, s); north = MAX(north, t);
    p_lo = MIN(p_lo, p); p_hi = MAX(p_hi, p); d_lo = MIN(d_lo, d); d_hi = MAX(d_hi, d);
    t0 = MIN(t0, MIN(pickup[i], dropoff[i])); t1 = MAX(t1, MAX(pickup[i], dropoff[i]));
  }

  /* Chords are compared squared: below in2 it is a pair, above out2 it is none. No two points, and no
   * point and the centre, are farther apart than `extent`, which bounds how coarse single precision is. */
  double angle = radius_m / EARTH_RADIUS_M; int all = angle >= M_PI;
  double chord = all ? 2 * EARTH_RADIUS_M : 2 * EARTH_RADIUS_M * sin(angle / 2);
  double extent = EARTH_RADIUS_M * MIN(2, (north - south) * RAD + (MAX(p_hi, d_hi) - MIN(p_lo, d_lo)) * 2 * M_PI);
  double hair = 4 * extent * FLT_EPSILON + 1e-3 + 1e-6 * chord, low = chord > hair ? chord - hair : 0;
  float in2 = all ? 0 : (float)(low * low), out2 = all ? INFINITY : (float)((chord + hair) * (chord + hair));
  double wide = fmin(angle * (1 + 1e-6) + 1e-3 / EARTH_RADIUS_M, M_PI), sin2_r = sin(wide / 2) * sin(wide / 2), reach = wide / RAD;

  double cell = fmax(cell_m / EARTH_RADIUS_M / RAD, 1e-4), band = fmax(band_m / EARTH_RADIUS_M / RAD, 1e-4);
  if (cell > 180) cell = 180; if (band > 180) band = 180;
  if (!make_bands(&g.p, south, north, cell) || !make_bands(&g.d, south, north, band)) goto end;
  g.cols = malloc(g.p.rows * sizeof *g.cols); if (!g.cols) goto end;
  g.col0 = INT64_MAX; g.col1 = 0;
  for (int64_t i = 0; i < g.p.rows; i++) {
    double c = g.cols[i] = fmax(floor(360 / cell * cos((south + (i + 0.5) * cell) * RAD)), 1);
    g.col0 = MIN(g.col0, (int64_t)(p_lo * c)); g.col1 = MAX(g.col1, MIN((int64_t)(p_hi * c), (int64_t)c - 1));
  }
  g.col_bits = bits_of(g.col1 - g.col0);
  int place_bits = g.col_bits + bits_of(g.p.rows), band_bits = bits_of(g.d.rows), used_bits = place_bits + band_bits;
  g.lon_bits = 10 + (RADIX_BITS - (used_bits + 10) % RADIX_BITS) % RADIX_BITS; /* what the last pass of the sort has room for */
  if (g.lon_bits > 62 - used_bits) g.lon_bits = 62 - used_bits;
  if (g.lon_bits < 1) { count = -2; goto end; }
  g.low_bits = band_bits + g.lon_bits; g.last = (1ll << g.lon_bits) - 1;
  g.lo = d_lo; g.steps = (d_hi > d_lo ? 1 / (d_hi - d_lo) : 1) * g.last;
  int key_bits = place_bits + g.low_bits;

  /* Slabs of time: outbound trips by drop-off in al, returns by pickup in bl. */
  int64_t slab = window / slabs_per_window; if (slab < 1) slab = 1;
  if ((t1 - t0) / slab > 4 * n + 4) slab = (t1 - t0) / (4 * n + 4) + 1; /* few trips far apart */
  int64_t slabs = (t1 - t0) / slab + 1, ahead = (slab + window - 2) / slab; /* slabs that a window touches beyond its first */
  as = calloc(slabs + 2, 8); bs = calloc(slabs + 2, 8); fill = calloc(slabs + 2, 8); al = malloc(n * 4); bl = malloc(n * 4);
  if (!as || !bs || !fill || !al || !bl) goto end;
  for (int64_t i = 0; i < n; i++) { as[(dropoff[i] - t0) / slab + 1]++; bs[(pickup[i] - t0) / slab + 1]++; }
  int64_t most = 0, most_open = 0;
  for (int64_t k = 0; k < slabs; k++) { most = MAX(most, MAX(as[k + 1], bs[k + 1])); as[k + 1] += as[k]; bs[k + 1] += bs[k]; }
  for (int64_t k = 0; k < slabs; k++) most_open = MAX(most_open, bs[MIN(k + ahead + 1, slabs)] - bs[k]);
  memcpy(fill, as, (slabs + 1) * 8); for (int64_t i = 0; i < n; i++) al[fill[(dropoff[i] - t0) / slab]++] = i;
  memcpy(fill, bs, (slabs + 1) * 8); for (int64_t i = 0; i < n; i++) bl[fill[(pickup[i] - t0) / slab]++] = i;

  uint64_t room = 16; while (room < 2 * (uint64_t)most_open) room *= 2;
  e = malloc(most * sizeof *e); f = malloc(most * sizeof *f); from = malloc(most * sizeof *from); to = malloc(most * sizeof *to);
  A = malloc(most * sizeof *A); N = malloc(most * sizeof *N); W = malloc((most_open + most) * sizeof *W); V = malloc((most_open + most) * sizeof *V);
  keys = malloc((most_open + most + 1) * 8); keys2 = malloc((most_open + most + 1) * 8);
  slots = malloc(room * sizeof *slots); starts = malloc((21 * most_open + 64) * 4); st = malloc((2 * g.d.rows + 4) * sizeof *st);
  if (!e || !f || !from || !to || !A || !N || !W || !V || !keys || !keys2 || !slots || !starts || !st) goto end;

  count = 0;
  int64_t open = 0; /* returns in the window: W, in the order of keys */
  for (int64_t next = 0; next < slabs + ahead; next++) {
    int64_t k = next - ahead, first = t0 + k * slab; /* outbound trips of slab k, once slab `next` is in the window */
    int64_t m = next < slabs ? bs[next + 1] - bs[next] : 0; const uint32_t *trips = bl + (m ? bs[next] : 0);
    spots_of(&g, trips, m, plat, plon, from); spots_of(&g, trips, m, dlat, dlon, to);
    for (int64_t x = 0; x < m; x++) {
      uint64_t low = (uint64_t)row_of(&g.d, to[x].lat) << g.lon_bits | (uint64_t)step_of(&g, to[x].turn);
      e[x] = (entry){place_of(&g, from[x].lat, from[x].turn) << g.low_bits | low, (uint32_t)x};
    }
    entry *s = sorted(e, f, m, 0, key_bits);
    for (int64_t x = 0; x < m; x++) { uint32_t i = s[x].x; N[x] = (inbound){from[i].at, to[i].at, pickup[trips[i]], trips[i]}; }
    int64_t q = 0, x = 0;
    for (int64_t y = 0; y <= open; y++) { /* the window slides */
      uint64_t key = y < open ? keys[y] : UINT64_MAX;
      for (; x < m && s[x].key <= key; x++, q++) { keys2[q] = s[x].key; V[q] = N[x]; }
      if (y < open) { keys2[q] = key; V[q] = W[y]; q += W[y].at > first; }
    }
    keys2[q] = UINT64_MAX; open = q;
    { inbound *w = W; W = V; V = w; uint64_t *t = keys; keys = keys2; keys2 = t; }
    if (k < 0 || !open || as[k + 1] == as[k]) continue;

    /* The directory: a hash table of the pickup cells in use, and where each row of a cell starts,
     * unless its rows are mostly empty. */
    uint64_t size = 16, used = 0, before = UINT64_MAX; while (size < (uint64_t)open / 2) size *= 2;
#define HASH(place) ((place) * 0x9E3779B97F4A7C15ull >> 20 & (size - 1))
    for (;; size *= 2, used = 0, before = UINT64_MAX) {
      memset(slots, 0, size * sizeof *slots);
      slot *c = 0;
      for (int64_t y = 0; y < open && used <= size / 2; y++) {
        uint64_t place = (keys[y] >> g.low_bits) + 1;
        if (place != before) {
          uint64_t h = HASH(place); while (slots[h].place) h = (h + 1) & (size - 1);
          c = slots + h; *c = (slot){.place = place, .from = (uint32_t)y}; before = place; used++;
        }
        c->to = (uint32_t)y + 1;
      }
      if (used <= size / 2) break;
    }
    const uint64_t low_mask = (1ull << g.low_bits) - 1;
    uint32_t at_start = 0;
    for (uint64_t h = 0; h < size; h++) if (slots[h].place) {
      slot *c = slots + h; uint32_t size_of = c->to - c->from;
      int64_t r = (keys[c->from] & low_mask) >> g.lon_bits, rows = ((keys[c->to - 1] & low_mask) >> g.lon_bits) - r + 1;
      if (rows > 4ll * size_of + 16) continue;
      c->row = (int32_t)r; c->rows = (int32_t)rows; c->starts = at_start; starts[at_start++] = c->from;
      for (uint32_t y = c->from; y < c->to; y++) for (int64_t here = (keys[y] & low_mask) >> g.lon_bits; r < here; r++) starts[at_start++] = y;
      starts[at_start++] = c->to;
    }

    /* Outbound trips in the order of the places where they look. */
    m = as[k + 1] - as[k]; trips = al + as[k];
    spots_of(&g, trips, m, plat, plon, from); spots_of(&g, trips, m, dlat, dlon, to);
    for (int64_t x = 0; x < m; x++)
      e[x] = (entry){place_of(&g, to[x].lat, to[x].turn) << band_bits | (uint64_t)row_of(&g.d, from[x].lat), (uint32_t)x};
    int rough = used_bits - 2 * RADIX_BITS; /* two passes bring neighbours near enough */
    s = sorted(e, f, m, rough > 0 ? rough : 0, used_bits);
    for (int64_t x = 0; x < m; x++) A[x] = (outbound){from[s[x].x], to[s[x].x], dropoff[trips[s[x].x]], trips[s[x].x]};

    for (const outbound *a = A; a < A + m; a++) {
      int64_t off = a->at, until = off + window; int ns = 0;
      if (a->pickup.lat + reach < south || a->pickup.lat - reach > north) continue;
      double t = a->pickup.turn, lat = a->pickup.lat;
      for (int64_t row = row_of(&g.d, lat - reach), end = row_of(&g.d, lat + reach); row <= end; row++) {
        double half = half_turn(&g.d, row, lat, a->pickup.cos_lat, sin2_r); if (half < 0) continue;
        int64_t base = row << g.lon_bits, l = step_of(&g, t - half), h = step_of(&g, t + half);
        if (half >= 0.5) { l = 0; h = g.last; }
        if (l <= g.last && h >= 0) st[ns++] = (stretch){base + MAX(l, 0), base + MIN(h, g.last)};
        if (half < 0.5 && t - half < 0) { l = step_of(&g, t - half + 1); if (l <= g.last) st[ns++] = (stretch){base + MAX(l, 0), base + g.last}; }
        if (half < 0.5 && t + half >= 1) { h = step_of(&g, t + half - 1); if (h >= 0) st[ns++] = (stretch){base, base + MIN(h, g.last)}; }
      }
      t = a->dropoff.turn; lat = a->dropoff.lat;
      for (int64_t row = row_of(&g.p, lat - reach), end = row_of(&g.p, lat + reach); row <= end; row++) {
        double half = half_turn(&g.p, row, lat, a->dropoff.cos_lat, sin2_r); if (half < 0) continue;
        int64_t round = (int64_t)g.cols[row], c0 = (int64_t)floor((t - half) * round), c1 = (int64_t)floor((t + half) * round);
        if (half >= 0.5 || c1 - c0 >= round) { c0 = 0; c1 = round - 1; }
        for (int64_t c = c0; c <= c1; c++) {
          int64_t col = (c < 0 ? c + round : c >= round ? c - round : c) - g.col0;
          if (col < 0 || col > g.col1 - g.col0) continue;
          uint64_t place = (uint64_t)row << g.col_bits | (uint64_t)col, h = HASH(place + 1);
          while (slots[h].place && slots[h].place != place + 1) h = (h + 1) & (size - 1);
          const slot *found = slots + h; if (!found->place) continue;
          for (int x = 0; x < ns; x++) {
            uint64_t want = place << g.low_bits | (uint64_t)st[x].lo, limit = place << g.low_bits | (uint64_t)st[x].hi;
            uint32_t y = found->from, till = found->to;
            if (found->rows) {
              int64_t r = (st[x].lo >> g.lon_bits) - found->row; if (r < 0 || r >= found->rows) continue;
              y = starts[found->starts + r]; till = starts[found->starts + r + 1];
              if (y == till) continue;
            }
            while (till - y > 8) {
              uint32_t half = (till - y) / 2; int right = keys[y + half] < want;
              y = right ? y + half : y; till = right ? till : y + half;
            }
            while (keys[y] < want) y++;
            for (; keys[y] <= limit; y++) { /* the last key is beyond any limit */
              const inbound *b = W + y;
              float u = b->pickup.x - a->dropoff.at.x, v = b->pickup.y - a->dropoff.at.y, w = b->pickup.z - a->dropoff.at.z;
              float there = u * u + v * v + w * w;
              if (there > out2 || b->at <= off || b->at >= until) continue;
              u = b->dropoff.x - a->pickup.at.x; v = b->dropoff.y - a->pickup.at.y; w = b->dropoff.z - a->pickup.at.z;
              float back = u * u + v * v + w * w; uint32_t i = a->trip, j = b->trip;
              if (back > out2 || i == j) continue;
              if ((there >= in2 || back >= in2) && (haversine_m(dlat[i], dlon[i], plat[j], plon[j]) >= radius_m ||
                                                    haversine_m(plat[i], plon[i], dlat[j], dlon[j]) >= radius_m)) continue;
              if (count < cap) { out_a[count] = i; out_b[count] = j; }
              count++;
            }
          }
        }
      }
    }
  }
end:
  free(g.p.cos_min); free(g.d.cos_min); free(g.cols); free(as); free(bs); free(fill); free(al); free(bl); free(e); free(f); free(from); free(to);
  free(A); free(N); free(W); free(V); free(keys); free(keys2); free(slots); free(starts); free(st);
  return count;
}

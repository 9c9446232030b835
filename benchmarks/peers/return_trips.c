/* Return trips on one core, the peer that the Spark engines are measured against and checked with.
 *
 * Trip b is a return of trip a when 0 < b.pickup - a.dropoff < window and the haversines between
 * a.dropoff and b.pickup and between a.pickup and b.dropoff are both below the radius.
 *
 * All trips are sorted once as returns: by the cell of the pickup, then by the row of the drop-off
 * (a band of latitude), then by its longitude. Time is cut into short slabs; for each, the returns
 * that its outbound trips can reach are copied out of the sorted order, which keeps them sorted and
 * small enough for the cache. An outbound trip looks up the few pickup cells near its drop-off and,
 * in each, the few stretches of longitude near its pickup. A stretch is as wide as the disc is at
 * that row, so it holds little else. Distances are tested as chords between points in metres, in
 * single precision about the centre of all points, and only what lies within the rounding error of
 * the radius is decided by the haversine. Nothing depends on the latitude: a row near a pole has
 * few cells, the disc over a pole spans the whole row, and longitude is a circle.
 *
 * cc -O3 -march=native -shared -fPIC -o return_trips.so return_trips.c -lm
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EARTH_RADIUS_M 6371000.0
#define RADIX_BITS 11
#define RADIX (1u << RADIX_BITS)

typedef struct { uint64_t key; uint32_t trip; uint32_t slab; } entry;
typedef struct { float x, y, z; } point;
typedef struct { point pickup, dropoff; int64_t at; } ends;                  /* a trip and when it begins */
typedef struct { point pickup, dropoff; uint32_t trip, pad; } found;         /* a return in a slab */
typedef struct { uint64_t cell; uint32_t from, to; int32_t row, rows; uint32_t starts; uint32_t pad; } slot; /* a cell's returns */
typedef struct { point pickup, dropoff; double plat, pturn, dlat, dturn; int64_t at; uint32_t trip, pad; } outbound;
typedef struct { double south, height; int64_t rows; const double *cos_min; } bands;

static const double RAD = M_PI / 180;

static double turn(double lon, double seam) { /* share of the circle east of the seam, [0, 1) */
  double x = fmod(lon - seam, 360.0);
  if (x < 0) x += 360.0;
  return x >= 360.0 ? 0 : x / 360.0;
}

static double haversine_m(double lat1, double lon1, double lat2, double lon2) {
  double p = sin((lat2 - lat1) * RAD / 2), q = sin((lon2 - lon1) * RAD / 2);
  double h = sqrt(p * p + cos(lat1 * RAD) * cos(lat2 * RAD) * q * q);
  return 2 * EARTH_RADIUS_M * asin(h < 1 ? h : 1);
}

static entry *sorted(entry *a, entry *b, int64_t n, int bits) {
  for (int shift = 0; shift < bits; shift += RADIX_BITS) {
    int64_t at[RADIX + 1] = {0};
    for (int64_t i = 0; i < n; i++) at[((a[i].key >> shift) & (RADIX - 1)) + 1]++;
    for (uint32_t i = 0; i < RADIX; i++) at[i + 1] += at[i];
    for (int64_t i = 0; i < n; i++) b[at[(a[i].key >> shift) & (RADIX - 1)]++] = a[i];
    entry *swap = a; a = b; b = swap;
  }
  return a;
}

static int bits_of(uint64_t n) { int b = 0; while (n >> b) b++; return b; }

static int64_t row_of(const bands *g, double lat) {
  double row = floor((lat - g->south) / g->height);
  return row < 0 ? 0 : row >= g->rows ? g->rows - 1 : (int64_t)row;
}

/* cos_min: the least cosine of any latitude in the row, made a hair smaller against rounding. */
static int make_bands(bands *g, double south, double north, double height) {
  g->south = south; g->height = height; g->rows = (int64_t)((north - south) / height) + 1;
  double *c = malloc(g->rows * sizeof *c);
  if (!c) return 0;
  for (int64_t i = 0; i < g->rows; i++) {
    double a = fabs(south + i * height), b = fabs(south + (i + 1) * height), far = (a > b ? a : b) + 1e-9;
    c[i] = far >= 90 ? 0 : cos(far * RAD);
  }
  g->cos_min = c;
  return 1;
}

/* Half the longitudes, as a share of the circle, of the disc round `lat` within one row: 0.5 spans
 * the circle, below 0 none. From the haversine: sin^2(dlon/2) <= (sin^2(r/2) - sin^2(dlat/2)) /
 * (cos lat1 cos lat2), with the nearest latitude and the least cosine of the row; asin(x) <= x + 0.571 x^3. */
static double half_turn(const bands *g, int64_t row, double lat, double cos_lat, double sin2_r) {
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

typedef struct { int64_t lo, hi; } stretch;

/* The number of pairs; the first `cap` of them as rows of the input in out_a, out_b. Times in any one
 * unit, coordinates in finite degrees. -1 where memory ends, -2 where an area is too wide for its cells. */
int64_t return_trips(int64_t n, const int64_t *pickup, const int64_t *dropoff, const double *plat, const double *plon,
                     const double *dlat, const double *dlon, double radius_m, int64_t window, int64_t cap,
                     uint32_t *out_a, uint32_t *out_b, double cell_m, double band_m, int64_t slabs_per_window) {
  if (n == 0 || !(radius_m > 0) || window <= 1) return 0;
  int64_t count = -1;
  double cx = 0, cy = 0, cz = 0, south = 90, north = -90;
  int64_t t0 = INT64_MAX, t1 = INT64_MIN;
  entry *e = 0, *f = 0; ends *all_ends = 0; bands P = {0}, D = {0}; double *cols = 0;
  uint32_t *keys = 0, *starts = 0; outbound *A = 0; found *w = 0; slot *slots = 0; int64_t *bt = 0, *as = 0, *bs = 0, *fill = 0; uint32_t *al = 0, *bl = 0;
  stretch *st = 0; uint64_t *cells = 0;
  all_ends = malloc(n * sizeof *all_ends); e = malloc(n * sizeof *e); f = malloc(n * sizeof *f);
  if (!all_ends || !e || !f) goto end;
  for (int pass = 0; pass < 2; pass++) { /* first the centre of all points, then points about it */
    for (int64_t i = 0; i < n; i++) {
      double a = plat[i] * RAD, b = plon[i] * RAD, c = dlat[i] * RAD, d = dlon[i] * RAD, ca = cos(a), cc = cos(c);
      double px = ca * cos(b), py = ca * sin(b), pz = sin(a), dx = cc * cos(d), dy = cc * sin(d), dz = sin(c);
      if (!pass) {
        i += n / 65536; /* a sample will do: the centre only decides how fine the rounding is */
        cx += px + dx; cy += py + dy; cz += pz + dz;
      } else {
        all_ends[i].at = pickup[i];
        all_ends[i].pickup = (point){(float)((px - cx) * EARTH_RADIUS_M), (float)((py - cy) * EARTH_RADIUS_M), (float)((pz - cz) * EARTH_RADIUS_M)};
        all_ends[i].dropoff = (point){(float)((dx - cx) * EARTH_RADIUS_M), (float)((dy - cy) * EARTH_RADIUS_M), (float)((dz - cz) * EARTH_RADIUS_M)};
      }
    }
    if (!pass) { double m = 2.0 * ((n - 1) / (n / 65536 + 1) + 1); cx /= m; cy /= m; cz /= m; }
  }
  float extent = 0;
  for (int64_t i = 0; i < n; i++) {
    const float *p = &all_ends[i].pickup.x, *d = &all_ends[i].dropoff.x;
    for (int k = 0; k < 3; k++) { extent = fmaxf(extent, fabsf(p[k])); extent = fmaxf(extent, fabsf(d[k])); }
    south = fmin(south, fmin(plat[i], dlat[i])); north = fmax(north, fmax(plat[i], dlat[i]));
    if (pickup[i] < t0) t0 = pickup[i]; if (dropoff[i] < t0) t0 = dropoff[i];
    if (pickup[i] > t1) t1 = pickup[i]; if (dropoff[i] > t1) t1 = dropoff[i];
  }
  double angle = radius_m / EARTH_RADIUS_M; int all = angle >= M_PI; double chord = all ? 2 * EARTH_RADIUS_M : 2 * EARTH_RADIUS_M * sin(angle / 2);
  double hair = 4 * extent * FLT_EPSILON + 1e-3 + 1e-6 * chord, low = chord > hair ? chord - hair : 0;
  float in2 = all ? 0 : (float)(low * low), out2 = all ? INFINITY : (float)((chord + hair) * (chord + hair));
  double wide = fmin(angle * (1 + 1e-6) + 1e-3 / EARTH_RADIUS_M, M_PI), sin2_r = sin(wide / 2) * sin(wide / 2), reach = wide / RAD;
  double seam = atan2(cy, cx) / RAD - 180; /* opposite the centre */
  double cell = fmax(cell_m / EARTH_RADIUS_M / RAD, 1e-4), band = fmax(band_m / EARTH_RADIUS_M / RAD, 1e-4);
  if (cell > 180) cell = 180; if (band > 180) band = 180;
  if (!make_bands(&P, south, north, cell) || !make_bands(&D, south, north, band)) goto end;
  cols = malloc(P.rows * sizeof *cols);
  if (!cols) goto end;
  for (int64_t i = 0; i < P.rows; i++) { double c = floor(360 / cell * cos((P.south + (i + 0.5) * cell) * RAD)); cols[i] = c < 1 ? 1 : c; }
  double lo = 1, hi = 0; /* turns of the drop-offs: longitude within a row is counted in steps of this range */
  for (int64_t i = 0; i < n; i++) { double t = turn(dlon[i], seam); lo = fmin(lo, t); hi = fmax(hi, t); }
  int col_bits = bits_of((uint64_t)(360 / cell)), row_bits = bits_of((uint64_t)P.rows), band_bits = bits_of((uint64_t)D.rows);
  uint64_t col0 = UINT64_MAX, col1 = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t row = row_of(&P, plat[i]); double c = floor(turn(plon[i], seam) * cols[row]); uint64_t col = c >= cols[row] ? cols[row] - 1 : c;
    if (col < col0) col0 = col; if (col > col1) col1 = col;
  }
  col_bits = bits_of(col1 - col0);
  int lon_bits = 31 - band_bits; if (lon_bits > 14) lon_bits = 14;
  if (band_bits > 24 || col_bits + row_bits + 31 > 64) { count = -2; goto end; }
  double steps = (hi > lo ? 1 / (hi - lo) : 1) * ((1 << lon_bits) - 1); int64_t last = (1 << lon_bits) - 1;
#define STEP(t) ((int64_t)floor(((t) - lo) * steps))
  int64_t slab = window / slabs_per_window; if (slab < 1) slab = 1;
  if ((t1 - t0) / slab > 4 * n + 4) slab = (t1 - t0) / (4 * n + 4) + 1; /* few trips far apart */
  int64_t slabs = (t1 - t0) / slab + 1;
  as = calloc(slabs + 2, 8); bs = calloc(slabs + 2, 8); fill = calloc(slabs + 2, 8);
  al = malloc(n * 4); if (!as || !bs || !fill || !al) goto end;
#define FIRST(p) ((p) - window + 1 > t0 ? ((p) - window + 1 - t0) / slab : 0)
#define LAST(p) (((p) - 1 - t0) / slab)
  for (int64_t i = 0; i < n; i++) {
    int64_t row = row_of(&P, plat[i]); double c = floor(turn(plon[i], seam) * cols[row]); uint64_t col = c >= cols[row] ? cols[row] - 1 : c;
    uint64_t place = (uint64_t)row << col_bits | (col - col0);
    e[i].key = (place << band_bits | (uint64_t)row_of(&D, dlat[i])) << lon_bits | (uint64_t)STEP(turn(dlon[i], seam)); e[i].trip = i;
    as[(dropoff[i] - t0) / slab + 1]++;
    if (pickup[i] > t0) for (int64_t k = FIRST(pickup[i]); k <= LAST(pickup[i]); k++) bs[k + 1]++;
  }
  entry *b = sorted(e, f, n, row_bits + col_bits + band_bits + lon_bits);
  for (int64_t k = 0; k < slabs; k++) { as[k + 1] += as[k]; bs[k + 1] += bs[k]; }
  bl = malloc((bs[slabs] + 1) * 4); if (!bl) goto end;
  memcpy(fill, bs, (slabs + 1) * 8);
  for (int64_t x = 0; x < n; x++) { int64_t p = pickup[b[x].trip]; if (p > t0) for (int64_t k = FIRST(p); k <= LAST(p); k++) bl[fill[k]++] = x; }
  entry *o = b == e ? f : e; /* outbound trips in the order of the places where they look */
  for (int64_t i = 0; i < n; i++) {
    int64_t row = row_of(&P, dlat[i]); double c = floor(turn(dlon[i], seam) * cols[row]); int64_t col = (int64_t)(c >= cols[row] ? cols[row] - 1 : c) - (int64_t)col0;
    if (col < 0) col = 0; if (col > (int64_t)(col1 - col0)) col = col1 - col0;
    o[i].key = ((uint64_t)row << col_bits | (uint64_t)col) << band_bits | (uint64_t)row_of(&D, plat[i]); o[i].trip = i;
  }
  {
    entry *spare = malloc(n * sizeof *spare); if (!spare) goto end;
    entry *s = sorted(o, spare, n, row_bits + col_bits + band_bits);
    memcpy(fill, as, (slabs + 1) * 8);
    for (int64_t x = 0; x < n; x++) al[fill[(dropoff[s[x].trip] - t0) / slab]++] = s[x].trip;
    free(spare);
  }
  int64_t most = 0; for (int64_t k = 0; k < slabs; k++) if (bs[k + 1] - bs[k] > most) most = bs[k + 1] - bs[k];
  int64_t most_a = 0; for (int64_t k = 0; k < slabs; k++) if (as[k + 1] - as[k] > most_a) most_a = as[k + 1] - as[k];
  uint64_t size = 16; while (size < 2 * (uint64_t)most) size *= 2;
  w = malloc((most + 1) * sizeof *w); keys = malloc((most + 1) * 4); bt = malloc((most + 1) * 8); slots = malloc(size * sizeof *slots); cells = malloc(8 * (most + 1));
  A = malloc((most_a + 1) * sizeof *A); starts = malloc((22 * most + 64) * 4); if (!A || !starts) goto end;
  st = malloc((2 * D.rows + 4) * sizeof *st);
  if (!w || !keys || !bt || !slots || !cells || !st) goto end;
  const uint64_t low_bits = (1ull << (band_bits + lon_bits)) - 1;
  count = 0;
  for (int64_t k = 0; k < slabs; k++) {
    if (as[k + 1] == as[k] || bs[k + 1] == bs[k]) continue;
    int64_t m = bs[k + 1] - bs[k];
    size = 16; while (size < (uint64_t)m / 2) size *= 2;
    for (;;) { /* the directory: a hash table of the pickup cells in use */
      memset(slots, 0, size * sizeof *slots);
      uint64_t used = 0, before = UINT64_MAX; slot *s = 0;
      for (int64_t x = 0; x < m; x++) {
        entry *r = b + bl[bs[k] + x]; uint32_t i = r->trip; uint64_t place = r->key >> (band_bits + lon_bits);
        w[x] = (found){all_ends[i].pickup, all_ends[i].dropoff, i, 0}; keys[x] = (uint32_t)(r->key & low_bits); bt[x] = all_ends[i].at;
        if (place != before) {
          if (++used > size / 2) break;
          uint64_t h = (place + 1) * 0x9E3779B97F4A7C15ull >> 20 & (size - 1);
          while (slots[h].cell) h = (h + 1) & (size - 1);
          s = slots + h; *s = (slot){.cell = place + 1, .from = (uint32_t)x}; before = place;
        }
        s->to = (uint32_t)x + 1;
      }
      if (used <= size / 2) break;
      size *= 2;
    }
    { uint32_t fill_at = 0;
      for (uint64_t h = 0; h < size; h++) if (slots[h].cell) { /* where each row of a cell starts, unless the rows are mostly empty */
        slot *c = slots + h; uint32_t r0 = keys[c->from] >> lon_bits, r1 = keys[c->to - 1] >> lon_bits, rows = r1 - r0 + 1;
        if (rows > 4 * (c->to - c->from) + 16) continue;
        c->row = (int32_t)r0; c->rows = (int32_t)rows; c->starts = fill_at;
        uint32_t r = r0; starts[fill_at++] = c->from;
        for (uint32_t x = c->from; x < c->to; x++) for (uint32_t here = keys[x] >> lon_bits; r < here; r++) starts[fill_at++] = x;
        starts[fill_at++] = c->to;
      }
    }
    int64_t na = as[k + 1] - as[k];
    for (int64_t x = 0; x < na; x++) { /* side by side first: a loop of loads that do not wait for each other */
      uint32_t i = al[as[k] + x];
      A[x] = (outbound){all_ends[i].pickup, all_ends[i].dropoff, plat[i], plon[i], dlat[i], dlon[i], dropoff[i], i, 0};
    }
    for (int64_t x = 0; x < na; x++) { A[x].pturn = turn(A[x].pturn, seam); A[x].dturn = turn(A[x].dturn, seam); }
    for (int64_t x = 0; x < na; x++) {
      const outbound *a = A + x; uint32_t i = a->trip; int64_t off = a->at, until = off + window;
      point from = a->dropoff, to = a->pickup;
      double cos_p = cos(a->plat * RAD), cos_d = cos(a->dlat * RAD), t = a->pturn; int ns = 0;
      if (a->plat + reach < south || a->plat - reach > north) continue;
      for (int64_t row = row_of(&D, a->plat - reach), end = row_of(&D, a->plat + reach); row <= end; row++) {
        double half = half_turn(&D, row, a->plat, cos_p, sin2_r); if (half < 0) continue;
        int64_t base = row << lon_bits, l = STEP(t - half), h = STEP(t + half);
        if (half >= 0.5) { l = 0; h = last; }
        if (l <= last && h >= 0) st[ns++] = (stretch){base + (l < 0 ? 0 : l), base + (h > last ? last : h)};
        if (half < 0.5 && t - half < 0) { l = STEP(t - half + 1); if (l <= last) st[ns++] = (stretch){base + (l < 0 ? 0 : l), base + last}; }
        if (half < 0.5 && t + half >= 1) { h = STEP(t + half - 1); if (h >= 0) st[ns++] = (stretch){base, base + (h > last ? last : h)}; }
      }
      t = a->dturn;
      for (int64_t row = row_of(&P, a->dlat - reach), end = row_of(&P, a->dlat + reach); row <= end; row++) {
        double half = half_turn(&P, row, a->dlat, cos_d, sin2_r); if (half < 0) continue;
        int64_t round = cols[row], c0 = floor((t - half) * round), c1 = floor((t + half) * round);
        if (half >= 0.5 || c1 - c0 >= round) { c0 = 0; c1 = round - 1; }
        for (int64_t c = c0; c <= c1; c++) {
          int64_t col = (c < 0 ? c + round : c >= round ? c - round : c) - (int64_t)col0;
          if (col < 0 || col > (int64_t)(col1 - col0)) continue;
          uint64_t place = ((uint64_t)row << col_bits | (uint64_t)col) + 1, h = place * 0x9E3779B97F4A7C15ull >> 20 & (size - 1);
          while (slots[h].cell && slots[h].cell != place) h = (h + 1) & (size - 1);
          if (!slots[h].cell) continue;
          uint32_t first = slots[h].from, stop = slots[h].to;
          for (int s = 0; s < ns; s++) {
            uint32_t want = (uint32_t)st[s].lo, limit = (uint32_t)st[s].hi, at = first, till = stop;
            if (slots[h].rows) {
              int32_t r = (int32_t)(want >> lon_bits) - slots[h].row;
              if ((uint32_t)r >= (uint32_t)slots[h].rows) continue;
              at = starts[slots[h].starts + r]; till = starts[slots[h].starts + r + 1];
              if (at == till) continue;
            }
            while (till - at > 8) { uint32_t half = (till - at) / 2; int right = keys[at + half] < want; at = right ? at + half : at; till = right ? till : at + half; }
            while (at < stop && keys[at] < want) at++;
            for (; at < stop && keys[at] <= limit; at++) {
              const found *r = w + at;
              float x = r->pickup.x - from.x, y = r->pickup.y - from.y, z = r->pickup.z - from.z, g = x * x + y * y + z * z;
              if (g > out2) continue;
              if (bt[at] <= off || bt[at] >= until) continue;
              float u = r->dropoff.x - to.x, v = r->dropoff.y - to.y, q = r->dropoff.z - to.z, d = u * u + v * v + q * q;
              if (d > out2 || r->trip == i) continue;
              uint32_t j = r->trip;
              if ((g >= in2 || d >= in2) && (haversine_m(dlat[i], dlon[i], plat[j], plon[j]) >= radius_m ||
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
  free(all_ends); free(e); free(f); free((void *)P.cos_min); free((void *)D.cos_min); free(cols); free(as); free(bs); free(fill);
  free(al); free(bl); free(w); free(keys); free(bt); free(slots); free(cells); free(st); free(A); free(starts);
  return count;
}

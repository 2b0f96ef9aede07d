// Tile functions compiled for avx2.
#define TRI_TILE_TABLE tile_table_avx2
#include "ops/pointwise_tiles.inc"

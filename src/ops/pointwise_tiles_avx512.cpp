// Tile functions compiled for avx512.
#define TRI_TILE_TABLE tile_table_avx512
#include "ops/pointwise_tiles.inc"

// Tile functions compiled for avx512.
#include "ops/gelu_tiles_avx512.h"

#define TRI_TILE_TABLE tile_table_avx512
#define TRI_TILE_GELU  // those two are hot and have their own
#include "ops/pointwise_tiles.inc"

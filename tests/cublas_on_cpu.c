/* cuBLAS's calls that minigrad makes, on the CPU: for testing how they are called. */
#include <stddef.h>

int stream_set, workspace_set, mode = -1;

int cublasCreate_v2(void **handle) { *handle = &mode; return 0; }
int cublasSetMathMode(void *handle, int wanted) { if (handle != &mode) return 1; mode = wanted; return 0; }
int cublasSetStream_v2(void *handle, void *stream) { if (handle != &mode) return 1; stream_set = (int)(size_t)stream; return 0; }
int cublasSetWorkspace_v2(void *handle, void *memory, size_t bytes) {
    if (handle != &mode || !memory) return 7;
    workspace_set = (int)bytes;
    return 0;
}

#define GEMM(name, real)                                                                                              \
    int name(void *handle, int ta, int tb, int m, int n, int k, const real *alpha, const real *a, int lda,           \
             const real *b, int ldb, const real *beta, real *c, int ldc) {                                           \
        if (handle != &mode) return 1;                                                                                \
        if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;                                            \
        for (int j = 0; j < n; j++)                                                                                   \
            for (int i = 0; i < m; i++) {                                                                             \
                real sum = 0;                                                                                         \
                for (int l = 0; l < k; l++)                                                                           \
                    sum += a[ta ? l + (size_t)i * lda : i + (size_t)l * lda] *                                        \
                           b[tb ? j + (size_t)l * ldb : l + (size_t)j * ldb];                                         \
                c[i + (size_t)j * ldc] = *alpha * sum + (*beta ? *beta * c[i + (size_t)j * ldc] : 0);                 \
            }                                                                                                         \
        return 0;                                                                                                     \
    }
GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)

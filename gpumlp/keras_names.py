"""The public names of Keras 3.15.1, by module; written by tests/keras_names.py.

``name=path`` is what stands at that path, too; a path that ends with a dot goes on with the name. `gpumlp.missing`
says what becomes of those that gpumlp has not.
"""

NAMES = {
    "": """
        DTypePolicy=mixed_precision. FloatDTypePolicy=dtype_policies. Function Initializer=initializers. Input=layers.
        InputSpec=layers. KerasTensor Layer=layers. Loss=losses. Metric=metrics. Model=models. Operation
        Optimizer=optimizers. Quantizer=quantizers. Regularizer=regularizers. RematScope Sequential=models.
        StatelessScope SymbolicScope Variable device name_scope remat version
    """,
    "activations": """
        celu deserialize elu exponential gelu get glu hard_shrink hard_sigmoid hard_silu=activations.hard_swish
        hard_swish hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu serialize sigmoid
        silu=activations.swish soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus
        swish tanh tanh_shrink threshold
    """,
    "applications": """
        ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge DenseNet121 DenseNet169 DenseNet201
        EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
        EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2L
        EfficientNetV2M EfficientNetV2S InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 MobileNetV3Large
        MobileNetV3Small NASNetLarge NASNetMobile ResNet101 ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2 VGG16
        VGG19 Xception
    """,
    "applications.convnext": """
        ConvNeXtBase=applications. ConvNeXtLarge=applications. ConvNeXtSmall=applications. ConvNeXtTiny=applications.
        ConvNeXtXLarge=applications. decode_predictions preprocess_input
    """,
    "applications.densenet": """
        DenseNet121=applications. DenseNet169=applications. DenseNet201=applications. decode_predictions
        preprocess_input
    """,
    "applications.efficientnet": """
        EfficientNetB0=applications. EfficientNetB1=applications. EfficientNetB2=applications.
        EfficientNetB3=applications. EfficientNetB4=applications. EfficientNetB5=applications.
        EfficientNetB6=applications. EfficientNetB7=applications. decode_predictions preprocess_input
    """,
    "applications.efficientnet_v2": """
        EfficientNetV2B0=applications. EfficientNetV2B1=applications. EfficientNetV2B2=applications.
        EfficientNetV2B3=applications. EfficientNetV2L=applications. EfficientNetV2M=applications.
        EfficientNetV2S=applications. decode_predictions preprocess_input
    """,
    "applications.imagenet_utils": """
        decode_predictions preprocess_input
    """,
    "applications.inception_resnet_v2": """
        InceptionResNetV2=applications. decode_predictions preprocess_input
    """,
    "applications.inception_v3": """
        InceptionV3=applications. decode_predictions preprocess_input
    """,
    "applications.mobilenet": """
        MobileNet=applications. decode_predictions preprocess_input
    """,
    "applications.mobilenet_v2": """
        MobileNetV2=applications. decode_predictions preprocess_input
    """,
    "applications.mobilenet_v3": """
        decode_predictions preprocess_input
    """,
    "applications.nasnet": """
        NASNetLarge=applications. NASNetMobile=applications. decode_predictions preprocess_input
    """,
    "applications.resnet": """
        ResNet101=applications. ResNet152=applications. ResNet50=applications. decode_predictions=applications.resnet50.
        preprocess_input=applications.resnet50.
    """,
    "applications.resnet50": """
        ResNet50=applications. decode_predictions preprocess_input
    """,
    "applications.resnet_v2": """
        ResNet101V2=applications. ResNet152V2=applications. ResNet50V2=applications. decode_predictions preprocess_input
    """,
    "applications.vgg16": """
        VGG16=applications. decode_predictions preprocess_input
    """,
    "applications.vgg19": """
        VGG19=applications. decode_predictions preprocess_input
    """,
    "applications.xception": """
        Xception=applications. decode_predictions preprocess_input
    """,
    "backend": """
        abs=ops. all any arange argmax=ops. argmin backend batch_dot batch_flatten batch_get_value batch_normalization
        batch_set_value bias_add binary_crossentropy binary_focal_crossentropy cast=ops. cast_to_floatx
        categorical_crossentropy categorical_focal_crossentropy clear_session clip=ops. concatenate constant conv1d
        conv2d conv2d_transpose conv3d cos=ops. count_params ctc_batch_cost ctc_decode ctc_label_dense_to_sparse cumprod
        cumsum depthwise_conv2d dot dropout dtype elu epsilon equal=ops. eval exp=ops. expand_dims=ops. eye flatten
        floatx foldl foldr gather get_uid get_value gradients greater=ops. greater_equal=ops. hard_sigmoid
        image_data_format in_top_k int_shape is_float_dtype is_int_dtype is_keras_tensor is_sparse l2_normalize
        less=ops. less_equal=ops. log=ops. map_fn max=ops. maximum=ops. mean=ops. min=ops. minimum=ops.
        moving_average_update name_scope ndim not_equal=ops. one_hot ones ones_like=ops. permute_dimensions pool2d
        pool3d pow=ops.power prod=ops. random_bernoulli random_normal random_normal_variable random_uniform
        random_uniform_variable relu=ops. repeat repeat_elements reshape resize_images resize_volumes result_type
        reverse rnn round=ops. separable_conv2d set_epsilon set_floatx set_image_data_format set_value shape
        sigmoid=ops. sign=ops. sin=ops. softmax=ops. softplus=ops. softsign sparse_categorical_crossentropy
        spatial_2d_padding spatial_3d_padding sqrt=ops. square=ops. squeeze=ops. stack standardize_dtype std=ops.
        stop_gradient sum=ops. switch=ops.where tanh=ops. temporal_padding tile to_dense transpose truncated_normal
        update update_add update_sub var=ops. variable zeros zeros_like=ops.
    """,
    "callbacks": """
        BackupAndRestore CSVLogger Callback CallbackList EarlyStopping History LambdaCallback LearningRateScheduler
        ModelCheckpoint OrbaxCheckpoint ProgbarLogger ReduceLROnPlateau RemoteMonitor SwapEMAWeights TensorBoard
        TerminateOnNaN
    """,
    "config": """
        backend=backend. disable_flash_attention disable_interactive_logging disable_traceback_filtering
        dtype_policy=mixed_precision.global_policy enable_flash_attention enable_interactive_logging
        enable_traceback_filtering enable_unsafe_deserialization epsilon=backend. floatx=backend.
        image_data_format=backend. is_flash_attention_enabled is_interactive_logging_enabled is_nnx_enabled
        is_traceback_filtering_enabled max_epochs max_steps_per_epoch set_backend
        set_dtype_policy=mixed_precision.set_global_policy set_epsilon=backend. set_floatx=backend.
        set_image_data_format=backend. set_max_epochs set_max_steps_per_epoch
    """,
    "constraints": """
        Constraint MaxNorm=constraints.max_norm MinMaxNorm=constraints.min_max_norm NonNeg=constraints.non_neg
        UnitNorm=constraints.unit_norm deserialize get max_norm min_max_norm non_neg serialize unit_norm
    """,
    "datasets": """
    """,
    "datasets.boston_housing": """
        load_data
    """,
    "datasets.california_housing": """
        load_data
    """,
    "datasets.cifar10": """
        load_data
    """,
    "datasets.cifar100": """
        load_data
    """,
    "datasets.fashion_mnist": """
        load_data
    """,
    "datasets.imdb": """
        get_word_index load_data
    """,
    "datasets.mnist": """
        load_data
    """,
    "datasets.reuters": """
        get_label_names get_word_index load_data
    """,
    "distillation": """
        DistillationLoss Distiller FeatureDistillation LogitsDistillation
    """,
    "distribution": """
        DataParallel DeviceMesh LayoutMap ModelParallel TensorLayout distribute_tensor distribution get_device_count
        initialize list_devices set_distribution
    """,
    "dtype_policies": """
        AWQDTypePolicy DTypePolicy=mixed_precision. DTypePolicyMap FloatDTypePolicy GPTQDTypePolicy Int4DTypePolicy
        QuantizedDTypePolicy QuantizedFloat8DTypePolicy deserialize get serialize
    """,
    "estimator": """
        model_to_estimator
    """,
    "experimental": """
        CosineDecay=optimizers.schedules. LinearModel WideDeepModel
    """,
    "export": """
        ExportArchive
    """,
    "initializers": """
        Constant GlorotNormal=initializers.glorot_normal GlorotUniform=initializers.glorot_uniform
        HeNormal=initializers.he_normal HeUniform=initializers.he_uniform Identity=initializers.IdentityInitializer
        IdentityInitializer Initializer LecunNormal=initializers.lecun_normal LecunUniform=initializers.lecun_uniform
        Ones Orthogonal=initializers.OrthogonalInitializer OrthogonalInitializer RandomNormal=initializers.random_normal
        RandomUniform=initializers.random_uniform STFT=initializers.STFTInitializer STFTInitializer
        TruncatedNormal=initializers.truncated_normal VarianceScaling=initializers.variance_scaling Zeros
        constant=initializers.Constant deserialize get glorot_normal glorot_uniform he_normal he_uniform
        identity=initializers.IdentityInitializer lecun_normal lecun_uniform ones=initializers.Ones
        orthogonal=initializers.OrthogonalInitializer random_normal random_uniform serialize
        stft=initializers.STFTInitializer truncated_normal variance_scaling zeros=initializers.Zeros
    """,
    "layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
        AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
        AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D=layers.AveragePooling1D
        AvgPool2D=layers.AveragePooling2D AvgPool3D=layers.AveragePooling3D BatchNormalization Bidirectional
        CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D=layers.Convolution1D
        Conv1DTranspose=layers.Convolution1DTranspose Conv2D=layers.Convolution2D
        Conv2DTranspose=layers.Convolution2DTranspose Conv3D=layers.Convolution3D
        Conv3DTranspose=layers.Convolution3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
        Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D
        Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Dense DenseFeatures DepthwiseConv1D DepthwiseConv2D
        Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten FlaxLayer GRU GRUCell GaussianDropout
        GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
        GlobalAvgPool1D=layers.GlobalAveragePooling1D GlobalAvgPool2D=layers.GlobalAveragePooling2D
        GlobalAvgPool3D=layers.GlobalAveragePooling3D GlobalMaxPool1D=layers.GlobalMaxPooling1D
        GlobalMaxPool2D=layers.GlobalMaxPooling2D GlobalMaxPool3D=layers.GlobalMaxPooling3D GlobalMaxPooling1D
        GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity
        Input InputLayer InputSpec IntegerLookup JaxLayer LSTM LSTMCell Lambda Layer LayerNormalization LeakyReLU
        LocallyConnected1D LocallyConnected2D Masking MaxNumBoundingBoxes MaxPool1D=layers.MaxPooling1D
        MaxPool2D=layers.MaxPooling2D MaxPool3D=layers.MaxPooling3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum
        MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization
        RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
        RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue
        RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
        STFTSpectrogram SeparableConv1D=layers.SeparableConvolution1D SeparableConv2D=layers.SeparableConvolution2D
        SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
        SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract TFSMLayer
        TextVectorization ThresholdedReLU TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D UpSampling2D
        UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D add average concatenate deserialize dot maximum
        minimum multiply serialize subtract
    """,
    "layers.advanced_activations": """
        ELU=layers. LeakyReLU=layers. PReLU=layers. ReLU=layers. Softmax=layers.
    """,
    "layers.convolutional": """
        Conv1D=layers. Conv2D=layers. Conv2DTranspose=layers. Conv3D=layers. MaxPooling1D=layers. MaxPooling2D=layers.
        UpSampling2D=layers. ZeroPadding2D=layers.
    """,
    "layers.core": """
        Activation=layers. Dense=layers. Dropout=layers. Flatten=layers. Lambda=layers. Masking=layers. Permute=layers.
        RepeatVector=layers. Reshape=layers.
    """,
    "layers.embeddings": """
        Embedding=layers.
    """,
    "layers.experimental": """
    """,
    "layers.experimental.preprocessing": """
        CategoryEncoding=layers. CenterCrop=layers. Discretization=layers. Hashing=layers. IntegerLookup=layers.
        Normalization=layers. RandomContrast=layers. RandomCrop=layers. RandomFlip=layers. RandomRotation=layers.
        RandomTranslation=layers. RandomZoom=layers. Rescaling=layers. Resizing=layers. StringLookup=layers.
        TextVectorization=layers.
    """,
    "layers.merge": """
        Add=layers. Average=layers. Concatenate=layers. Dot=layers. Maximum=layers. Multiply=layers. Subtract=layers.
        add=layers. average=layers. concatenate=layers. dot=layers. multiply=layers.
    """,
    "layers.noise": """
        AlphaDropout=layers. GaussianDropout=layers. GaussianNoise=layers.
    """,
    "layers.normalization": """
        BatchNormalization=layers. LayerNormalization=layers.
    """,
    "layers.pooling": """
        AveragePooling2D=layers. GlobalAveragePooling2D=layers. GlobalMaxPooling2D=layers. MaxPooling1D=layers.
        MaxPooling2D=layers.
    """,
    "layers.recurrent": """
        GRU=layers. LSTM=layers. SimpleRNN=layers.
    """,
    "layers.wrappers": """
        Bidirectional=layers. TimeDistributed=layers.
    """,
    "legacy": """
    """,
    "legacy.saving": """
        deserialize_keras_object serialize_keras_object
    """,
    "losses": """
        BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy
        CategoricalGeneralizedCrossEntropy CategoricalHinge Circle CosineSimilarity Dice Hinge Huber
        KLD=metrics.kullback_leibler_divergence KLDivergence LogCosh Loss MAE=metrics.mean_absolute_error
        MAPE=metrics.mean_absolute_percentage_error MSE=metrics.mean_squared_error
        MSLE=metrics.mean_squared_logarithmic_error MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
        MeanSquaredLogarithmicError Poisson Reduction SparseCategoricalCrossentropy SquaredHinge Tversky
        binary_crossentropy=metrics. binary_focal_crossentropy=metrics. categorical_crossentropy=metrics.
        categorical_focal_crossentropy=metrics. categorical_generalized_cross_entropy categorical_hinge=metrics. circle
        cosine_similarity ctc deserialize dice get hinge=metrics. huber=metrics.
        kl_divergence=metrics.kullback_leibler_divergence kld=metrics.kullback_leibler_divergence
        kullback_leibler_divergence=metrics. log_cosh=metrics. logcosh=metrics.log_cosh mae=metrics.mean_absolute_error
        mape=metrics.mean_absolute_percentage_error mean_absolute_error=metrics. mean_absolute_percentage_error=metrics.
        mean_squared_error=metrics. mean_squared_logarithmic_error=metrics. mse=metrics.mean_squared_error
        msle=metrics.mean_squared_logarithmic_error poisson=metrics. serialize sparse_categorical_crossentropy=metrics.
        squared_hinge=metrics. tversky
    """,
    "metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
        CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives FalsePositives Hinge
        IoU KLD=metrics.kullback_leibler_divergence KLDivergence LogCoshError MAE=metrics.mean_absolute_error
        MAPE=metrics.mean_absolute_percentage_error MSE=metrics.mean_squared_error
        MSLE=metrics.mean_squared_logarithmic_error Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU
        MeanMetricWrapper MeanSquaredError MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU PearsonCorrelation
        Poisson Precision PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError
        SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy
        SpecificityAtSensitivity SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives binary_accuracy
        binary_crossentropy binary_focal_crossentropy categorical_accuracy categorical_crossentropy
        categorical_focal_crossentropy categorical_hinge concordance_correlation deserialize get hinge huber
        kl_divergence=metrics.kullback_leibler_divergence kld=metrics.kullback_leibler_divergence
        kullback_leibler_divergence log_cosh logcosh=metrics.log_cosh mae=metrics.mean_absolute_error
        mape=metrics.mean_absolute_percentage_error mean_absolute_error mean_absolute_percentage_error
        mean_squared_error mean_squared_logarithmic_error mse=metrics.mean_squared_error
        msle=metrics.mean_squared_logarithmic_error pearson_correlation poisson serialize sparse_categorical_accuracy
        sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
    """,
    "mixed_precision": """
        DTypePolicy LossScaleOptimizer Policy=mixed_precision.DTypePolicy dtype_policy=mixed_precision.global_policy
        global_policy set_dtype_policy=mixed_precision.set_global_policy set_global_policy
    """,
    "models": """
        Model Sequential clone_model load_model model_from_json save_model
    """,
    "ops": """
        abs absolute adaptive_average_pool adaptive_max_pool add all allclose amax amin angle any append arange arccos
        arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argpartition argsort array array_split
        associative_scan average average_pool bartlett batch_normalization binary_crossentropy bincount bitwise_and
        bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman broadcast_to
        cast categorical_crossentropy cbrt cdist ceil celu cholesky cholesky_inverse clip concatenate cond conj
        conjugate conv conv_transpose convert_to_numpy convert_to_tensor copy corrcoef correlate cos cosh count_nonzero
        cross ctc_decode ctc_loss cumprod cumsum custom_gradient deg2rad depth_to_space depthwise_conv det diag diagflat
        diagonal diff digitize divide divide_no_nan dot dot_product_attention dsplit dstack dtype eig eigh einsum elu
        empty empty_like equal erf erfc erfinv exp exp2 expand_dims expm1 extract_sequences eye fabs fft fft2 flip
        fliplr flipud floor floor_divide fmax fmin fmod fold fori_loop full full_like gcd gelu geomspace get_item glu
        greater greater_equal hamming hanning hard_shrink hard_sigmoid hard_silu=ops.hard_swish hard_swish hard_tanh
        heaviside histogram hsplit hstack hypot i0 identity ifft2 imag in_top_k inner inv irfft is_tensor isclose
        isfinite isin isinf isnan isneginf isposinf isreal istft jvp kaiser kron layer_normalization lcm ldexp
        leaky_relu left_shift less less_equal linspace log log10 log1p log2 log_sigmoid log_softmax logaddexp logaddexp2
        logdet logical_and logical_not logical_or logical_xor logspace logsumexp lstsq lu_factor map matmul matrix_rank
        max max_pool maximum mean median meshgrid min minimum mod moments moveaxis multi_hot multiply nan_to_num
        nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod nanquantile
        nanstd nansum nanvar ndim negative nextafter nonzero norm normalize not_equal one_hot ones ones_like outer pad
        percentile pinv polar power prod psnr ptp qr quantile rad2deg ravel real rearrange reciprocal relu relu6 repeat
        reshape rfft right_shift rms_normalization roll rot90 round rsqrt saturate_cast scan scatter scatter_update
        searchsorted segment_max segment_min segment_prod segment_sum select selu separable_conv shape sigmoid sign
        signbit silu=ops.swish sin sinc sinh size slice slice_update slogdet soft_shrink softmax softplus softsign solve
        solve_triangular sort space_to_depth sparse_categorical_crossentropy sparse_plus sparse_sigmoid sparsemax split
        sqrt square squareplus squeeze stack std stft stop_gradient subtract sum svd swapaxes swish switch take
        take_along_axis tan tanh tanh_shrink tensordot threshold tile top_k trace transpose trapezoid tri tril triu
        true_divide trunc unfold unique unravel_index unstack vander var vdot vectorize vectorized_map view
        view_as_complex view_as_real vsplit vstack where while_loop zeros zeros_like
    """,
    "ops.image": """
        affine_transform crop_images elastic_transform extract_patches extract_patches_3d gaussian_blur hsv_to_rgb
        map_coordinates pad_images perspective_transform resize rgb_to_grayscale rgb_to_hsv scale_and_translate
        sobel_edges ssim
    """,
    "ops.linalg": """
        cholesky=ops. cholesky_inverse=ops. det=ops. eig=ops. eigh=ops. inv=ops. jvp=ops. lstsq=ops. lu_factor=ops.
        matrix_rank=ops. norm=ops. pinv=ops. qr=ops. solve=ops. solve_triangular=ops. svd=ops.
    """,
    "ops.nn": """
        adaptive_average_pool=ops. adaptive_max_pool=ops. average_pool=ops. batch_normalization=ops.
        binary_crossentropy=ops. categorical_crossentropy=ops. celu=ops. conv=ops. conv_transpose=ops. ctc_decode=ops.
        ctc_loss=ops. depth_to_space=ops. depthwise_conv=ops. dot_product_attention=ops. elu=ops. fold=ops. gelu=ops.
        glu=ops. hard_shrink=ops. hard_sigmoid=ops. hard_silu=ops.hard_swish hard_swish=ops. hard_tanh=ops.
        layer_normalization=ops. leaky_relu=ops. log_sigmoid=ops. log_softmax=ops. max_pool=ops. moments=ops.
        multi_hot=ops. normalize=ops. one_hot=ops. polar=ops. psnr=ops. relu6=ops. relu=ops. rms_normalization=ops.
        selu=ops. separable_conv=ops. sigmoid=ops. silu=ops.swish soft_shrink=ops. softmax=ops. softplus=ops.
        softsign=ops. space_to_depth=ops. sparse_categorical_crossentropy=ops. sparse_plus=ops. sparse_sigmoid=ops.
        sparsemax=ops. squareplus=ops. swish=ops. tanh_shrink=ops. threshold=ops. unfold=ops.
    """,
    "ops.numpy": """
        abs=ops. absolute=ops. add=ops. all=ops. allclose=ops. amax=ops. amin=ops. angle=ops. any=ops. append=ops.
        arange=ops. arccos=ops. arccosh=ops. arcsin=ops. arcsinh=ops. arctan2=ops. arctan=ops. arctanh=ops. argmax=ops.
        argmin=ops. argpartition=ops. argsort=ops. array=ops. array_split=ops. average=ops. bartlett=ops. bincount=ops.
        bitwise_and=ops. bitwise_invert=ops. bitwise_left_shift=ops. bitwise_not=ops. bitwise_or=ops.
        bitwise_right_shift=ops. bitwise_xor=ops. blackman=ops. broadcast_to=ops. cbrt=ops. ceil=ops. clip=ops.
        concatenate=ops. conj=ops. conjugate=ops. copy=ops. corrcoef=ops. correlate=ops. cos=ops. cosh=ops.
        count_nonzero=ops. cross=ops. cumprod=ops. cumsum=ops. deg2rad=ops. diag=ops. diagflat=ops. diagonal=ops.
        diff=ops. digitize=ops. divide=ops. divide_no_nan=ops. dot=ops. dsplit=ops. dstack=ops. einsum=ops. empty=ops.
        empty_like=ops. equal=ops. exp2=ops. exp=ops. expand_dims=ops. expm1=ops. eye=ops. fabs=ops. flip=ops.
        fliplr=ops. flipud=ops. floor=ops. floor_divide=ops. fmax=ops. fmin=ops. fmod=ops. full=ops. full_like=ops.
        gcd=ops. geomspace=ops. get_item=ops. greater=ops. greater_equal=ops. hamming=ops. hanning=ops. heaviside=ops.
        histogram=ops. hsplit=ops. hstack=ops. hypot=ops. i0=ops. identity=ops. imag=ops. inner=ops. isclose=ops.
        isfinite=ops. isin=ops. isinf=ops. isnan=ops. isneginf=ops. isposinf=ops. isreal=ops. kaiser=ops. kron=ops.
        lcm=ops. ldexp=ops. left_shift=ops. less=ops. less_equal=ops. linspace=ops. log10=ops. log1p=ops. log2=ops.
        log=ops. logaddexp2=ops. logaddexp=ops. logical_and=ops. logical_not=ops. logical_or=ops. logical_xor=ops.
        logspace=ops. matmul=ops. max=ops. maximum=ops. mean=ops. median=ops. meshgrid=ops. min=ops. minimum=ops.
        mod=ops. moveaxis=ops. multiply=ops. nan_to_num=ops. nanargmax=ops. nanargmin=ops. nancumprod=ops.
        nancumsum=ops. nanmax=ops. nanmean=ops. nanmedian=ops. nanmin=ops. nanpercentile=ops. nanprod=ops.
        nanquantile=ops. nanstd=ops. nansum=ops. nanvar=ops. ndim=ops. negative=ops. nextafter=ops. nonzero=ops.
        not_equal=ops. ones=ops. ones_like=ops. outer=ops. pad=ops. percentile=ops. power=ops. prod=ops. ptp=ops.
        quantile=ops. rad2deg=ops. ravel=ops. real=ops. reciprocal=ops. repeat=ops. reshape=ops. right_shift=ops.
        roll=ops. rot90=ops. round=ops. searchsorted=ops. select=ops. sign=ops. signbit=ops. sin=ops. sinc=ops.
        sinh=ops. size=ops. slogdet=ops. sort=ops. split=ops. sqrt=ops. square=ops. squeeze=ops. stack=ops. std=ops.
        subtract=ops. sum=ops. swapaxes=ops. take=ops. take_along_axis=ops. tan=ops. tanh=ops. tensordot=ops. tile=ops.
        trace=ops. transpose=ops. trapezoid=ops. tri=ops. tril=ops. triu=ops. true_divide=ops. trunc=ops. unique=ops.
        unravel_index=ops. vander=ops. var=ops. vdot=ops. vectorize=ops. view=ops. vsplit=ops. vstack=ops. where=ops.
        zeros=ops. zeros_like=ops.
    """,
    "optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer=mixed_precision. MultiOptimizer
        Muon Nadam Optimizer OptimizerMap RMSprop SGD ScheduleFreeAdamW deserialize get serialize
    """,
    "optimizers.legacy": """
        Adagrad=optimizers.legacy.Optimizer Adam=optimizers.legacy.Optimizer Ftrl=optimizers.legacy.Optimizer Optimizer
        RMSprop=optimizers.legacy.Optimizer SGD=optimizers.legacy.Optimizer
    """,
    "optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule PiecewiseConstantDecay
        PolynomialDecay deserialize serialize
    """,
    "preprocessing": """
        image_dataset_from_directory text_dataset_from_directory timeseries_dataset_from_array
    """,
    "preprocessing.image": """
        DirectoryIterator ImageDataGenerator Iterator NumpyArrayIterator apply_affine_transform apply_brightness_shift
        apply_channel_shift array_to_img=utils. img_to_array=utils. load_img=utils. random_brightness
        random_channel_shift random_rotation random_shear random_shift random_zoom save_img=utils. smart_resize
    """,
    "preprocessing.sequence": """
        TimeseriesGenerator make_sampling_table pad_sequences=utils. skipgrams
    """,
    "preprocessing.text": """
        Tokenizer hashing_trick one_hot text_to_word_sequence tokenizer_from_json
    """,
    "quantizers": """
        AWQConfig AbsMaxQuantizer Float8QuantizationConfig GPTQConfig Int4QuantizationConfig Int8QuantizationConfig
        QuantizationConfig Quantizer abs_max_quantize abs_max_quantize_grouped_with_zero_point
        compute_float8_amax_history compute_float8_scale deserialize fake_quant_with_min_max_vars get pack_int4
        quantize_and_dequantize serialize unpack_int4
    """,
    "random": """
        SeedGenerator beta binomial categorical dropout gamma normal randint shuffle truncated_normal uniform
    """,
    "regularizers": """
        L1 L1L2=regularizers.l1_l2 L2 OrthogonalRegularizer=regularizers.orthogonal_regularizer Regularizer deserialize
        get l1=regularizers.L1 l1_l2 l2=regularizers.L2 orthogonal_regularizer serialize
    """,
    "saving": """
        CustomObjectScope=saving.custom_object_scope KerasFileEditor custom_object_scope deserialize_keras_object
        get_custom_objects get_registered_name get_registered_object load_model=models. load_weights
        register_keras_serializable save_model=models. save_weights serialize_keras_object
    """,
    "tree": """
        MAP_TO_NONE assert_same_paths assert_same_structure flatten flatten_with_path is_nested lists_to_tuples
        map_shape_structure map_structure map_structure_up_to pack_sequence_as traverse
    """,
    "utils": """
        Config CustomObjectScope=saving.custom_object_scope FeatureSpace Progbar PyDataset Sequence=utils.PyDataset
        array_to_img audio_dataset_from_directory clear_session=backend. custom_object_scope=saving.
        deserialize_keras_object=saving. disable_interactive_logging=config. enable_interactive_logging=config.
        get_custom_objects=saving. get_file get_registered_name=saving. get_registered_object=saving. get_source_inputs
        image_dataset_from_directory=preprocessing. img_to_array is_interactive_logging_enabled=config.
        is_keras_tensor=backend. load_img model_to_dot multi_gpu_model normalize pack_x_y_sample_weight pad_sequences
        plot_model register_keras_serializable=saving. save_img serialize_keras_object=saving. set_random_seed
        split_dataset standardize_dtype=backend. text_dataset_from_directory=preprocessing.
        timeseries_dataset_from_array=preprocessing. to_categorical unpack_x_y_sample_weight
    """,
    "utils.bounding_boxes": """
        affine_transform clip_to_image_size compute_ciou compute_iou convert_format crop decode_deltas_to_boxes
        encode_box_to_deltas pad
    """,
    "utils.legacy": """
        deserialize_keras_object=legacy.saving. serialize_keras_object=legacy.saving.
    """,
    "utils.np_utils": """
        normalize=utils. to_categorical=utils.
    """,
    "utils.vis_utils": """
        model_to_dot=utils. plot_model=utils.
    """,
    "visualization": """
        draw_bounding_boxes draw_segmentation_masks plot_bounding_box_gallery plot_image_gallery
        plot_segmentation_mask_gallery
    """,
    "wrappers": """
        SKLearnClassifier SKLearnRegressor SKLearnTransformer
    """,
    "wrappers.scikit_learn": """
        KerasClassifier KerasRegressor
    """,
}

# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""The small world that Seedling knows, as tables: every entry in English and Chinese.

Written for this project; nothing is copied from a data set. A line is one entry, its cells parted by ` | `.
"""


def table(text: str) -> tuple[tuple[str, ...], ...]:
    """Rows of cells; all rows of a table have the same width."""
    rows = tuple(tuple(cell.strip() for cell in line.split(" | ")) for line in text.strip().splitlines())
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise ValueError(f"a table has rows of {sorted(widths)} cells: {rows[0]}")
    return rows


def words(text: str) -> tuple[str, ...]:
    """`apple pear` as (apple, pear)."""
    return tuple(text.split())


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`apple 苹果, pear 梨` as ((apple, 苹果), (pear, 梨))."""
    return tuple((en, zh) for en, zh in (entry.split() for entry in text.replace("\n", " ").split(",")))


# animal | zh | sound: what it does | zh | legs | its young | zh | where it lives | zh
ANIMALS = table("""
dog | 狗 | barks | 汪汪叫 | 4 | puppy | 小狗 | in a kennel | 狗窝里
cat | 猫 | meows | 喵喵叫 | 4 | kitten | 小猫 | in a house | 房子里
cow | 牛 | moos | 哞哞叫 | 4 | calf | 小牛 | in a barn | 牛棚里
sheep | 羊 | bleats | 咩咩叫 | 4 | lamb | 羊羔 | in a meadow | 草地上
horse | 马 | neighs | 嘶嘶叫 | 4 | foal | 小马 | in a stable | 马厩里
pig | 猪 | oinks | 哼哼叫 | 4 | piglet | 小猪 | in a pigsty | 猪圈里
duck | 鸭子 | quacks | 嘎嘎叫 | 2 | duckling | 小鸭 | on a pond | 池塘里
hen | 母鸡 | clucks | 咯咯叫 | 2 | chick | 小鸡 | in a coop | 鸡舍里
frog | 青蛙 | croaks | 呱呱叫 | 4 | tadpole | 蝌蚪 | by a pond | 池塘边
lion | 狮子 | roars | 大声吼叫 | 4 | cub | 幼狮 | on the savanna | 大草原上
wolf | 狼 | howls | 嗷嗷叫 | 4 | pup | 狼崽 | in the forest | 森林里
bee | 蜜蜂 | buzzes | 嗡嗡叫 | 6 | larva | 幼虫 | in a hive | 蜂巢里
owl | 猫头鹰 | hoots | 咕咕叫 | 2 | owlet | 小猫头鹰 | in a tree | 树上
snake | 蛇 | hisses | 嘶嘶响 | 0 | snakelet | 小蛇 | in the grass | 草丛里
mouse | 老鼠 | squeaks | 吱吱叫 | 4 | pinkie | 鼠崽 | in a hole | 洞里
elephant | 大象 | trumpets | 像喇叭一样叫 | 4 | calf | 小象 | on the savanna | 大草原上
monkey | 猴子 | chatters | 叽叽叫 | 4 | infant | 小猴 | in the jungle | 丛林里
bird | 鸟 | sings | 叽叽喳喳叫 | 2 | chick | 雏鸟 | in a nest | 鸟巢里
bear | 熊 | growls | 低声吼叫 | 4 | cub | 小熊 | in a cave | 山洞里
goose | 鹅 | honks | 嘎嘎大叫 | 2 | gosling | 小鹅 | on a farm | 农场里
rooster | 公鸡 | crows | 喔喔叫 | 2 | chick | 小鸡 | on a farm | 农场里
cricket | 蟋蟀 | chirps | 唧唧叫 | 6 | nymph | 若虫 | in a meadow | 草地上
donkey | 驴 | brays | 啊呃啊呃叫 | 4 | foal | 小驴 | in a stable | 马厩里
tiger | 老虎 | roars | 大声吼叫 | 4 | cub | 虎崽 | in the jungle | 丛林里
goat | 山羊 | bleats | 咩咩叫 | 4 | kid | 小山羊 | on a mountain | 山上
crow | 乌鸦 | caws | 哇哇叫 | 2 | chick | 雏鸦 | in a tree | 树上
dolphin | 海豚 | whistles | 发出哨声 | 0 | calf | 小海豚 | in the sea | 大海里
whale | 鲸 | sings | 唱歌 | 0 | calf | 小鲸 | in the sea | 大海里
turkey | 火鸡 | gobbles | 咯咯大叫 | 2 | poult | 小火鸡 | on a farm | 农场里
seal | 海豹 | barks | 汪汪叫 | 0 | pup | 小海豹 | on the coast | 海岸边
""")

# animals without a sound of their own in this world: animal | zh | legs | where it lives | zh
QUIET_ANIMALS = table("""
fish | 鱼 | 0 | in the water | 水里
rabbit | 兔子 | 4 | in a burrow | 地洞里
spider | 蜘蛛 | 8 | in a web | 网上
ant | 蚂蚁 | 6 | in an anthill | 蚁丘里
butterfly | 蝴蝶 | 6 | in a garden | 花园里
crab | 螃蟹 | 10 | on the beach | 海滩上
fox | 狐狸 | 4 | in a den | 洞穴里
camel | 骆驼 | 4 | in the desert | 沙漠里
penguin | 企鹅 | 2 | on the ice | 冰上
panda | 熊猫 | 4 | in a bamboo forest | 竹林里
deer | 鹿 | 4 | in the forest | 森林里
giraffe | 长颈鹿 | 4 | on the savanna | 大草原上
zebra | 斑马 | 4 | on the savanna | 大草原上
snail | 蜗牛 | 0 | in a shell | 壳里
worm | 虫子 | 0 | in the soil | 泥土里
squirrel | 松鼠 | 4 | in a tree | 树上
shark | 鲨鱼 | 0 | in the sea | 大海里
kangaroo | 袋鼠 | 2 | in Australia | 澳大利亚
""")

# country | zh | capital | zh | continent | zh | language | zh
COUNTRIES = table("""
France | 法国 | Paris | 巴黎 | Europe | 欧洲 | French | 法语
Germany | 德国 | Berlin | 柏林 | Europe | 欧洲 | German | 德语
Italy | 意大利 | Rome | 罗马 | Europe | 欧洲 | Italian | 意大利语
Spain | 西班牙 | Madrid | 马德里 | Europe | 欧洲 | Spanish | 西班牙语
Portugal | 葡萄牙 | Lisbon | 里斯本 | Europe | 欧洲 | Portuguese | 葡萄牙语
England | 英格兰 | London | 伦敦 | Europe | 欧洲 | English | 英语
Ireland | 爱尔兰 | Dublin | 都柏林 | Europe | 欧洲 | English | 英语
Greece | 希腊 | Athens | 雅典 | Europe | 欧洲 | Greek | 希腊语
Austria | 奥地利 | Vienna | 维也纳 | Europe | 欧洲 | German | 德语
Poland | 波兰 | Warsaw | 华沙 | Europe | 欧洲 | Polish | 波兰语
Sweden | 瑞典 | Stockholm | 斯德哥尔摩 | Europe | 欧洲 | Swedish | 瑞典语
Norway | 挪威 | Oslo | 奥斯陆 | Europe | 欧洲 | Norwegian | 挪威语
Denmark | 丹麦 | Copenhagen | 哥本哈根 | Europe | 欧洲 | Danish | 丹麦语
Finland | 芬兰 | Helsinki | 赫尔辛基 | Europe | 欧洲 | Finnish | 芬兰语
Hungary | 匈牙利 | Budapest | 布达佩斯 | Europe | 欧洲 | Hungarian | 匈牙利语
Ukraine | 乌克兰 | Kyiv | 基辅 | Europe | 欧洲 | Ukrainian | 乌克兰语
Russia | 俄罗斯 | Moscow | 莫斯科 | Europe | 欧洲 | Russian | 俄语
China | 中国 | Beijing | 北京 | Asia | 亚洲 | Chinese | 中文
Japan | 日本 | Tokyo | 东京 | Asia | 亚洲 | Japanese | 日语
Korea | 韩国 | Seoul | 首尔 | Asia | 亚洲 | Korean | 韩语
India | 印度 | Delhi | 德里 | Asia | 亚洲 | Hindi | 印地语
Thailand | 泰国 | Bangkok | 曼谷 | Asia | 亚洲 | Thai | 泰语
Vietnam | 越南 | Hanoi | 河内 | Asia | 亚洲 | Vietnamese | 越南语
Turkey | 土耳其 | Ankara | 安卡拉 | Asia | 亚洲 | Turkish | 土耳其语
Iran | 伊朗 | Tehran | 德黑兰 | Asia | 亚洲 | Persian | 波斯语
Mongolia | 蒙古 | Ulaanbaatar | 乌兰巴托 | Asia | 亚洲 | Mongolian | 蒙古语
Nepal | 尼泊尔 | Kathmandu | 加德满都 | Asia | 亚洲 | Nepali | 尼泊尔语
Egypt | 埃及 | Cairo | 开罗 | Africa | 非洲 | Arabic | 阿拉伯语
Kenya | 肯尼亚 | Nairobi | 内罗毕 | Africa | 非洲 | Swahili | 斯瓦希里语
Morocco | 摩洛哥 | Rabat | 拉巴特 | Africa | 非洲 | Arabic | 阿拉伯语
Ghana | 加纳 | Accra | 阿克拉 | Africa | 非洲 | English | 英语
Canada | 加拿大 | Ottawa | 渥太华 | America | 美洲 | English | 英语
Mexico | 墨西哥 | Mexico City | 墨西哥城 | America | 美洲 | Spanish | 西班牙语
Brazil | 巴西 | Brasilia | 巴西利亚 | America | 美洲 | Portuguese | 葡萄牙语
Argentina | 阿根廷 | Buenos Aires | 布宜诺斯艾利斯 | America | 美洲 | Spanish | 西班牙语
Chile | 智利 | Santiago | 圣地亚哥 | America | 美洲 | Spanish | 西班牙语
Peru | 秘鲁 | Lima | 利马 | America | 美洲 | Spanish | 西班牙语
Cuba | 古巴 | Havana | 哈瓦那 | America | 美洲 | Spanish | 西班牙语
Australia | 澳大利亚 | Canberra | 堪培拉 | Oceania | 大洋洲 | English | 英语
""")

# thing with its article or plural | zh | is or are | colour | zh
COLOURED = table("""
grass | 草 | is | green | 绿色
the sky | 天空 | is | blue | 蓝色
the sea | 大海 | is | blue | 蓝色
snow | 雪 | is | white | 白色
milk | 牛奶 | is | white | 白色
salt | 盐 | is | white | 白色
coal | 煤 | is | black | 黑色
the night | 夜晚 | is | black | 黑色
blood | 血 | is | red | 红色
a tomato | 西红柿 | is | red | 红色
a strawberry | 草莓 | is | red | 红色
a rose | 玫瑰 | is | red | 红色
a fire engine | 消防车 | is | red | 红色
a cherry | 樱桃 | is | red | 红色
a lemon | 柠檬 | is | yellow | 黄色
a banana | 香蕉 | is | yellow | 黄色
the sun | 太阳 | is | yellow | 黄色
butter | 黄油 | is | yellow | 黄色
a sunflower | 向日葵 | is | yellow | 黄色
a carrot | 胡萝卜 | is | orange | 橙色
a pumpkin | 南瓜 | is | orange | 橙色
an orange | 橙子 | is | orange | 橙色
a grape | 葡萄 | is | purple | 紫色
a plum | 李子 | is | purple | 紫色
an eggplant | 茄子 | is | purple | 紫色
lavender | 薰衣草 | is | purple | 紫色
chocolate | 巧克力 | is | brown | 棕色
wood | 木头 | is | brown | 棕色
soil | 泥土 | is | brown | 棕色
coffee | 咖啡 | is | brown | 棕色
a flamingo | 火烈鸟 | is | pink | 粉色
a peach blossom | 桃花 | is | pink | 粉色
an elephant | 大象 | is | grey | 灰色
ash | 灰烬 | is | grey | 灰色
a frog | 青蛙 | is | green | 绿色
a cucumber | 黄瓜 | is | green | 绿色
spinach | 菠菜 | is | green | 绿色
a raven | 渡鸦 | is | black | 黑色
a swan | 天鹅 | is | white | 白色
cotton | 棉花 | is | white | 白色
""")

# word | its opposite | zh | zh
OPPOSITES = table("""
hot | cold | 热 | 冷
big | small | 大 | 小
tall | short | 高 | 矮
fast | slow | 快 | 慢
old | young | 年老 | 年轻
happy | sad | 高兴 | 难过
light | dark | 明亮 | 黑暗
day | night | 白天 | 黑夜
good | bad | 好 | 坏
rich | poor | 富有 | 贫穷
strong | weak | 强 | 弱
full | empty | 满 | 空
open | closed | 打开 | 关闭
wet | dry | 湿 | 干
hard | soft | 硬 | 软
clean | dirty | 干净 | 肮脏
loud | quiet | 吵闹 | 安静
up | down | 上 | 下
left | right | 左 | 右
inside | outside | 里面 | 外面
early | late | 早 | 晚
near | far | 近 | 远
heavy | weightless | 沉重 | 轻飘
thick | thin | 厚 | 薄
wide | narrow | 宽 | 窄
deep | shallow | 深 | 浅
sweet | bitter | 甜 | 苦
brave | afraid | 勇敢 | 害怕
easy | difficult | 容易 | 困难
first | last | 第一 | 最后
begin | end | 开始 | 结束
buy | sell | 买 | 卖
give | take | 给 | 拿
love | hate | 爱 | 恨
win | lose | 赢 | 输
true | false | 真 | 假
push | pull | 推 | 拉
laugh | cry | 笑 | 哭
come | go | 来 | 去
awake | asleep | 醒着 | 睡着
alive | dead | 活着 | 死了
safe | dangerous | 安全 | 危险
cheap | expensive | 便宜 | 昂贵
beautiful | ugly | 美丽 | 丑陋
same | different | 相同 | 不同
above | below | 上方 | 下方
before | after | 之前 | 之后
always | never | 总是 | 从不
smooth | rough | 光滑 | 粗糙
sharp | blunt | 锋利 | 迟钝
friend | enemy | 朋友 | 敌人
north | south | 北 | 南
east | west | 东 | 西
question | answer | 问题 | 答案
summer | winter | 夏天 | 冬天
""")

# thing | zh | what we do with it | zh
USES = table("""
knife | 刀 | cut food | 切食物
spoon | 勺子 | eat soup | 喝汤
cup | 杯子 | drink water | 喝水
pen | 钢笔 | write words | 写字
book | 书 | read stories | 读故事
chair | 椅子 | sit down | 坐下
bed | 床 | sleep | 睡觉
lamp | 台灯 | light a room | 照亮房间
clock | 时钟 | tell the time | 看时间
phone | 电话 | call people | 打电话
umbrella | 雨伞 | stay dry in the rain | 挡雨
key | 钥匙 | open a door | 开门
hammer | 锤子 | hit nails | 敲钉子
saw | 锯子 | cut wood | 锯木头
broom | 扫帚 | sweep the floor | 扫地
soap | 肥皂 | wash our hands | 洗手
towel | 毛巾 | dry our hands | 擦手
mirror | 镜子 | see ourselves | 照自己
camera | 相机 | take photos | 拍照
car | 汽车 | drive on roads | 在路上行驶
boat | 船 | travel on water | 在水上航行
plane | 飞机 | fly in the air | 在空中飞行
bicycle | 自行车 | ride to school | 骑车上学
needle | 针 | sew clothes | 缝衣服
scissors | 剪刀 | cut paper | 剪纸
oven | 烤箱 | bake bread | 烤面包
fridge | 冰箱 | keep food cold | 保存食物
bag | 包 | carry things | 装东西
ladder | 梯子 | climb up high | 爬高
rope | 绳子 | tie things | 捆东西
brush | 刷子 | paint a wall | 刷墙
comb | 梳子 | tidy our hair | 梳头
blanket | 毯子 | keep warm | 保暖
map | 地图 | find the way | 找路
basket | 篮子 | carry fruit | 装水果
bucket | 水桶 | carry water | 提水
ruler | 尺子 | measure length | 量长度
telescope | 望远镜 | look at stars | 看星星
candle | 蜡烛 | make light | 照明
computer | 电脑 | write programs | 写程序
""")

# job | zh | what the person does | zh
JOBS = table("""
baker | 面包师 | bakes bread | 烤面包
teacher | 老师 | teaches children | 教孩子
doctor | 医生 | helps sick people | 帮助病人
farmer | 农民 | grows food | 种粮食
pilot | 飞行员 | flies planes | 开飞机
sailor | 水手 | sails ships | 开船
painter | 画家 | paints pictures | 画画
singer | 歌手 | sings songs | 唱歌
writer | 作家 | writes books | 写书
cook | 厨师 | cooks meals | 做饭
firefighter | 消防员 | puts out fires | 灭火
gardener | 园丁 | cares for plants | 照顾植物
carpenter | 木匠 | makes things of wood | 做木工
tailor | 裁缝 | makes clothes | 做衣服
fisherman | 渔夫 | catches fish | 捕鱼
dentist | 牙医 | looks after teeth | 照顾牙齿
driver | 司机 | drives a car | 开车
dancer | 舞者 | dances on a stage | 在舞台上跳舞
astronaut | 宇航员 | flies into space | 飞向太空
librarian | 图书管理员 | looks after books | 管理图书
butcher | 屠夫 | sells meat | 卖肉
shepherd | 牧羊人 | looks after sheep | 放羊
judge | 法官 | decides in court | 在法庭上判案
nurse | 护士 | cares for patients | 照顾病人
miner | 矿工 | digs for coal | 挖煤
""")

# category: singular, plural, zh -> its words
CATEGORIES = {
    ("animal", "animals", "动物"): tuple((row[0], row[1]) for row in ANIMALS + QUIET_ANIMALS),
    ("fruit", "fruits", "水果"): pairs(
        "apple 苹果, pear 梨, banana 香蕉, grape 葡萄, peach 桃子, lemon 柠檬, cherry 樱桃, mango 芒果, plum 李子,"
        "melon 甜瓜, strawberry 草莓, pineapple 菠萝, watermelon 西瓜, apricot 杏子, kiwi 猕猴桃"
    ),
    ("vegetable", "vegetables", "蔬菜"): pairs(
        "carrot 胡萝卜, potato 土豆, tomato 西红柿, onion 洋葱, cabbage 卷心菜, spinach 菠菜, pumpkin 南瓜, cucumber 黄瓜,"
        "garlic 大蒜, celery 芹菜, lettuce 生菜, radish 萝卜, eggplant 茄子, pea 豌豆"
    ),
    ("piece of clothing", "clothes", "衣服"): pairs(
        "shirt 衬衫, coat 外套, hat 帽子, scarf 围巾, glove 手套, sock 袜子, shoe 鞋子, skirt 裙子, sweater 毛衣,"
        "jacket 夹克, belt 腰带, boot 靴子"
    ),
    ("vehicle", "vehicles", "交通工具"): pairs(
        "car 汽车, bus 公交车, train 火车, bicycle 自行车, boat 船, plane 飞机, truck 卡车, tram 电车, helicopter 直升机,"
        "motorcycle 摩托车, taxi 出租车, rocket 火箭"
    ),
    ("tool", "tools", "工具"): pairs(
        "hammer 锤子, saw 锯子, drill 电钻, axe 斧头, shovel 铲子, rake 耙子, ladder 梯子, scissors 剪刀, needle 针,"
        "wrench 扳手, broom 扫帚"
    ),
    ("piece of furniture", "furniture", "家具"): pairs(
        "table 桌子, chair 椅子, bed 床, sofa 沙发, desk 书桌, shelf 架子, wardrobe 衣柜, bench 长凳, stool 凳子, cupboard 橱柜"
    ),
    ("part of the body", "parts of the body", "身体部位"): pairs(
        "hand 手, foot 脚, head 头, arm 胳膊, leg 腿, eye 眼睛, ear 耳朵, nose 鼻子, mouth 嘴, finger 手指, knee 膝盖,"
        "shoulder 肩膀, tooth 牙齿, tongue 舌头"
    ),
    ("musical instrument", "musical instruments", "乐器"): pairs(
        "piano 钢琴, guitar 吉他, violin 小提琴, drum 鼓, flute 长笛, trumpet 小号, harp 竖琴, cello 大提琴, accordion 手风琴"
    ),
    ("drink", "drinks", "饮料"): pairs(
        "water 水, milk 牛奶, tea 茶, coffee 咖啡, juice 果汁, lemonade 柠檬水, cocoa 可可, wine 葡萄酒, beer 啤酒"
    ),
    ("colour", "colours", "颜色"): pairs(
        "red 红色, blue 蓝色, green 绿色, yellow 黄色, black 黑色, white 白色, brown 棕色, purple 紫色, pink 粉色, grey 灰色,"
        "orange 橙色"
    ),
    ("flower", "flowers", "花"): pairs(
        "rose 玫瑰, tulip 郁金香, lily 百合, daisy 雏菊, sunflower 向日葵, orchid 兰花, lotus 荷花, violet 紫罗兰, poppy 罂粟花"
    ),
    ("family member", "family members", "家人"): pairs(
        "mother 妈妈, father 爸爸, sister 姐姐, brother 哥哥, grandmother 奶奶, grandfather 爷爷, uncle 叔叔, aunt 阿姨,"
        "daughter 女儿, son 儿子"
    ),
    ("shape", "shapes", "形状"): pairs(
        "circle 圆形, square 正方形, triangle 三角形, rectangle 长方形, oval 椭圆形, star 星形, heart 心形, cube 立方体"
    ),
    ("metal", "metals", "金属"): pairs("gold 金, silver 银, iron 铁, copper 铜, tin 锡, lead 铅, zinc 锌"),
    ("job", "jobs", "职业"): tuple((row[0], row[1]) for row in JOBS),
}

# words outside the categories, for translation and the string tasks
WORDS = pairs(
    "house 房子, door 门, window 窗户, wall 墙, roof 屋顶, kitchen 厨房, garden 花园, street 街道, city 城市,"
    "village 村庄, school 学校, hospital 医院, market 市场, library 图书馆, bridge 桥, road 路, park 公园, farm 农场,"
    "tree 树, leaf 叶子, forest 森林, river 河, lake 湖, island 岛, beach 海滩, desert 沙漠, valley 山谷, hill 小山,"
    "stone 石头, sand 沙子, fire 火, ice 冰, rain 雨, wind 风, cloud 云, storm 暴风雨, moon 月亮, planet 行星, earth 地球,"
    "bread 面包, rice 米饭, egg 鸡蛋, cheese 奶酪, sugar 糖, soup 汤, cake 蛋糕, honey 蜂蜜, meat 肉, noodle 面条,"
    "morning 早晨, evening 傍晚, week 星期, month 月份, year 年, hour 小时, minute 分钟, spring 春天, autumn 秋天,"
    "child 孩子, woman 女人, man 男人, girl 女孩, boy 男孩, baby 婴儿, king 国王, queen 王后, neighbour 邻居, guest 客人,"
    "paper 纸, letter 信, pencil 铅笔, picture 图片, song 歌曲, dance 舞蹈, game 游戏, ball 球, toy 玩具, gift 礼物,"
    "money 钱, ship 轮船, wheel 轮子, engine 发动机, ticket 票, box 盒子, bottle 瓶子, plate 盘子, bowl 碗, glass 玻璃,"
    "dream 梦, idea 主意, story 故事, word 单词, name 名字, number 数字, language 语言, music 音乐, science 科学,"
    "world 世界, country 国家, peace 和平, time 时间, life 生命, health 健康, work 工作, holiday 假期, birthday 生日,"
    "seed 种子, root 根, branch 树枝, feather 羽毛, wing 翅膀, tail 尾巴, shell 贝壳, nest 鸟巢, bone 骨头,"
    "run 跑, walk 走, eat 吃, drink 喝, sleep 睡觉, read 读, write 写, speak 说, listen 听, sing 唱, swim 游泳, fly 飞,"
    "jump 跳, think 想, learn 学习, teach 教, help 帮助, play 玩, open 打开, build 建造, draw 画, wash 洗, wait 等,"
    "student 学生, computer 电脑, robot 机器人, model 模型, machine 机器, picture 图片, test 测试, data 数据"
)

PLURALS = table("""
cat | cats
dog | dogs
apple | apples
book | books
tree | trees
car | cars
house | houses
horse | horses
bird | birds
flower | flowers
chair | chairs
river | rivers
box | boxes
bus | buses
glass | glasses
fox | foxes
dish | dishes
brush | brushes
peach | peaches
watch | watches
church | churches
bench | benches
potato | potatoes
tomato | tomatoes
hero | heroes
baby | babies
city | cities
story | stories
party | parties
cherry | cherries
lady | ladies
country | countries
butterfly | butterflies
boy | boys
key | keys
toy | toys
monkey | monkeys
leaf | leaves
knife | knives
wolf | wolves
wife | wives
shelf | shelves
half | halves
child | children
man | men
woman | women
foot | feet
tooth | teeth
goose | geese
mouse | mice
sheep | sheep
fish | fish
deer | deer
ox | oxen
person | people
pen | pens
lamp | lamps
song | songs
egg | eggs
cloud | clouds
star | stars
""")

DAYS = tuple(
    zip(
        words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        words("星期一 星期二 星期三 星期四 星期五 星期六 星期日"),
        strict=True,
    )
)
MONTHS = tuple(
    zip(
        words("January February March April May June July August September October November December"),
        words("一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月"),
        strict=True,
    )
)
SEASONS = (("winter", "冬天"), ("spring", "春天"), ("summer", "夏天"), ("autumn", "秋天"))

# question; other wordings | answer | zh question; other wordings | zh answer. The last wording is held out.
SCIENCE = table("""
What is water made of?; Which elements are in water?; Tell me what water is made of.; What does water consist of? | Water is made of hydrogen and oxygen. | 水是由什么组成的？; 水里有哪些元素？; 请告诉我水由什么组成。; 组成水的是什么？ | 水是由氢和氧组成的。
At what temperature does water boil?; When does water boil?; How hot is boiling water?; What is the boiling point of water? | Water boils at 100 degrees. | 水在多少度沸腾？; 水多少度会开？; 开水有多热？; 水的沸点是多少？ | 水在100度沸腾。
At what temperature does water freeze?; When does water freeze?; When does water turn to ice?; What is the freezing point of water? | Water freezes at 0 degrees. | 水在多少度结冰？; 水什么时候结冰？; 水什么时候变成冰？; 水的冰点是多少？ | 水在0度结冰。
What does the Earth move around?; What does the Earth orbit?; Around what does our planet travel?; What does the Earth go around? | The Earth moves around the sun. | 地球绕着什么转？; 地球围绕什么运行？; 我们的行星绕着什么走？; 地球是绕什么转的？ | 地球绕着太阳转。
What does the moon move around?; What does the moon orbit?; Around what does the moon travel?; What does the moon go around? | The moon moves around the Earth. | 月亮绕着什么转？; 月球围绕什么运行？; 月亮绕着什么走？; 月亮是绕什么转的？ | 月亮绕着地球转。
Why do we see lightning before thunder?; Why does thunder come after lightning?; Why is lightning seen first?; Why do we hear thunder later than we see lightning? | Light is faster than sound. | 为什么先看到闪电后听到雷声？; 为什么雷声在闪电之后？; 为什么闪电先到？; 为什么雷声比闪电晚？ | 光比声音快。
What do plants need to grow?; What does a plant need?; What do flowers and trees need?; What must plants have in order to grow? | Plants need light, water and air. | 植物生长需要什么？; 植物需要什么？; 花和树需要什么？; 植物要有什么才能长大？ | 植物需要阳光、水和空气。
Which planet is the largest?; What is the biggest planet?; Name the largest planet.; Which is the biggest of the planets? | Jupiter is the largest planet. | 最大的行星是哪个？; 哪颗行星最大？; 说出最大的行星。; 行星中最大的是谁？ | 最大的行星是木星。
Which planet is closest to the sun?; What planet is nearest to the sun?; Name the planet closest to the sun.; Which is the innermost planet? | Mercury is closest to the sun. | 离太阳最近的行星是哪个？; 哪颗行星离太阳最近？; 说出离太阳最近的行星。; 最靠近太阳的行星是什么？ | 离太阳最近的行星是水星。
How many days are in a week?; How many days does a week have?; Tell me how many days a week has.; A week has how many days? | A week has 7 days. | 一个星期有几天？; 一周有多少天？; 请告诉我一周有几天。; 一星期共几天？ | 一个星期有7天。
How many months are in a year?; How many months does a year have?; Tell me how many months a year has.; A year has how many months? | A year has 12 months. | 一年有几个月？; 一年有多少个月？; 请告诉我一年有几个月。; 一年共几个月？ | 一年有12个月。
How many days are in a year?; How many days does a year have?; Tell me how many days a year has.; A year has how many days? | A year has 365 days. | 一年有多少天？; 一年有几天？; 请告诉我一年有多少天。; 一年共多少天？ | 一年有365天。
How many hours are in a day?; How many hours does a day have?; Tell me how many hours a day has.; A day has how many hours? | A day has 24 hours. | 一天有几个小时？; 一天有多少小时？; 请告诉我一天有几个小时。; 一天共几小时？ | 一天有24小时。
How many minutes are in an hour?; How many minutes does an hour have?; Tell me how many minutes an hour has.; An hour has how many minutes? | An hour has 60 minutes. | 一小时有几分钟？; 一小时有多少分钟？; 请告诉我一小时有几分钟。; 一小时共几分钟？ | 一小时有60分钟。
How many seasons are there?; How many seasons does a year have?; What are the seasons?; Name the seasons. | There are four seasons: spring, summer, autumn and winter. | 有几个季节？; 一年有几个季节？; 季节有哪些？; 说出所有的季节。 | 一年有四季：春天、夏天、秋天和冬天。
Where does the sun rise?; In which direction does the sun come up?; From where does the sun rise?; On which side does the sun rise? | The sun rises in the east. | 太阳从哪里升起？; 太阳从哪个方向出来？; 日出在哪边？; 太阳是从哪边升起的？ | 太阳从东方升起。
Where does the sun set?; In which direction does the sun go down?; Where does the sun go down?; On which side does the sun set? | The sun sets in the west. | 太阳从哪里落下？; 太阳往哪个方向落？; 日落在哪边？; 太阳是从哪边落下的？ | 太阳从西方落下。
What is the largest ocean?; Which ocean is the biggest?; Name the largest ocean.; Which is the greatest ocean? | The Pacific is the largest ocean. | 最大的海洋是哪个？; 哪个大洋最大？; 说出最大的海洋。; 海洋中最大的是谁？ | 最大的海洋是太平洋。
What is the highest mountain?; Which mountain is the highest?; Name the highest mountain.; Which is the tallest mountain? | Mount Everest is the highest mountain. | 最高的山是哪座？; 哪座山最高？; 说出最高的山。; 山中最高的是谁？ | 最高的山是珠穆朗玛峰。
What do bees make?; What food comes from bees?; What do we get from bees?; Which food do bees make? | Bees make honey. | 蜜蜂做什么？; 什么食物来自蜜蜂？; 我们从蜜蜂那里得到什么？; 蜜蜂酿什么？ | 蜜蜂酿蜂蜜。
What do cows give us?; What do we get from cows?; Which drink comes from cows?; What drink do cows give? | Cows give us milk. | 奶牛给我们什么？; 我们从奶牛那里得到什么？; 什么饮料来自奶牛？; 奶牛产什么？ | 奶牛给我们牛奶。
What do hens lay?; What do we get from hens?; Which food comes from hens?; What does a hen lay? | Hens lay eggs. | 母鸡下什么？; 我们从母鸡那里得到什么？; 什么食物来自母鸡？; 母鸡会生什么？ | 母鸡下蛋。
What is ice?; What is ice made of?; Explain what ice is.; Can you say what ice is? | Ice is frozen water. | 冰是什么？; 冰是由什么做的？; 解释一下冰是什么。; 你能说说冰是什么吗？ | 冰是冻住的水。
What is steam?; What is steam made of?; Explain what steam is.; Can you say what steam is? | Steam is hot water in the air. | 蒸汽是什么？; 蒸汽是由什么做的？; 解释一下蒸汽是什么。; 你能说说蒸汽是什么吗？ | 蒸汽是空气中的热水汽。
What do we breathe?; What do people breathe?; What goes into our lungs?; What is it that we breathe? | We breathe air. | 我们呼吸什么？; 人呼吸什么？; 什么进入我们的肺？; 我们呼吸的是什么？ | 我们呼吸空气。
What does the heart do?; What is the heart for?; Why do we have a heart?; What work does the heart do? | The heart pumps blood through the body. | 心脏做什么？; 心脏有什么用？; 我们为什么有心脏？; 心脏的工作是什么？ | 心脏把血液送到全身。
Why is it dark at night?; Why is the night dark?; What makes the night dark?; Why do we have dark nights? | At night our side of the Earth turns away from the sun. | 为什么晚上是黑的？; 夜晚为什么黑？; 是什么让夜晚变黑？; 为什么夜里没有光？ | 晚上我们这一面的地球背对着太阳。
Where does rain come from?; What brings the rain?; Where is rain from?; From where does rain fall? | Rain comes from clouds. | 雨从哪里来？; 雨是什么带来的？; 雨来自哪里？; 雨是从哪里落下的？ | 雨从云里来。
What is the sun?; What kind of thing is the sun?; Explain what the sun is.; Can you say what the sun is? | The sun is a star. | 太阳是什么？; 太阳是哪种东西？; 解释一下太阳是什么。; 你能说说太阳是什么吗？ | 太阳是一颗恒星。
What is the Earth?; What kind of thing is the Earth?; Explain what the Earth is.; Can you say what the Earth is? | The Earth is a planet. | 地球是什么？; 地球是哪种东西？; 解释一下地球是什么。; 你能说说地球是什么吗？ | 地球是一颗行星。
How many legs does an insect have?; How many legs do insects have?; Tell me how many legs an insect has.; An insect has how many legs? | An insect has 6 legs. | 昆虫有几条腿？; 昆虫有多少条腿？; 请告诉我昆虫有几条腿。; 昆虫共几条腿？ | 昆虫有6条腿。
Which colours make green?; How do you mix green?; What do I mix to get green?; Which two colours give green? | Blue and yellow make green. | 什么颜色混合成绿色？; 绿色怎么调？; 怎样混合得到绿色？; 哪两种颜色能调出绿色？ | 蓝色和黄色混合成绿色。
Which colours make orange?; How do you mix orange?; What do I mix to get orange?; Which two colours give orange? | Red and yellow make orange. | 什么颜色混合成橙色？; 橙色怎么调？; 怎样混合得到橙色？; 哪两种颜色能调出橙色？ | 红色和黄色混合成橙色。
Which colours make purple?; How do you mix purple?; What do I mix to get purple?; Which two colours give purple? | Red and blue make purple. | 什么颜色混合成紫色？; 紫色怎么调？; 怎样混合得到紫色？; 哪两种颜色能调出紫色？ | 红色和蓝色混合成紫色。
What is the biggest animal?; Which animal is the biggest?; Name the largest animal.; What animal is larger than all others? | The whale is the biggest animal. | 最大的动物是什么？; 哪种动物最大？; 说出最大的动物。; 什么动物比其他的都大？ | 最大的动物是鲸。
What is the tallest animal?; Which animal is the tallest?; Name the tallest animal.; What animal is taller than all others? | The giraffe is the tallest animal. | 最高的动物是什么？; 哪种动物最高？; 说出最高的动物。; 什么动物比其他的都高？ | 最高的动物是长颈鹿。
What are the days of the week?; Name the days of the week.; Tell me all days of the week.; Which days does a week have? | The days are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. | 一周有哪几天？; 说出一周的每一天。; 一个星期有哪些天？; 告诉我一周里的每一天。 | 一周有星期一、星期二、星期三、星期四、星期五、星期六和星期日。
What are the months of the year?; Name the months.; Tell me all the months.; Which months does a year have? | The months are January, February, March, April, May, June, July, August, September, October, November and December. | 一年有哪些月份？; 说出所有的月份。; 告诉我所有的月份。; 一年里有哪几个月？ | 一年有一月、二月、三月、四月、五月、六月、七月、八月、九月、十月、十一月和十二月。
Say the alphabet.; What is the alphabet?; Tell me the alphabet.; Which letters are in the alphabet? | The alphabet is a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z. | 说出字母表。; 字母表是什么？; 告诉我英文字母表。; 英文字母有哪些？ | 字母表是 a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z。
What does a magnet attract?; What sticks to a magnet?; What can a magnet pull?; What do magnets attract? | A magnet attracts iron. | 磁铁吸引什么？; 什么会粘在磁铁上？; 磁铁能吸什么？; 磁铁会吸住什么？ | 磁铁吸引铁。
""")

NAMES = pairs(
    "Anna 安娜, Tom 汤姆, Lucy 露西, Ben 本, Mia 米娅, Leo 里奥, Emma 艾玛, Max 马克斯, Nina 妮娜, Sam 山姆,"
    "Lily 莉莉, Jack 杰克, Ella 艾拉, Oscar 奥斯卡, Ruby 露比, Hugo 雨果, Clara 克拉拉, Felix 菲利克斯, Alice 爱丽丝,"
    "David 大卫, Maria 玛丽亚, Peter 彼得, Sofia 索菲亚, Paul 保罗, Xiaoming 小明, Xiaohong 小红, Lihua 李华, Wangfang 王芳"
)

# for stories: place | zh | thing | zh is drawn from these two
PLACES = table("""
in the forest | 森林里
by the river | 河边
on the farm | 农场里
in the city | 城市里
by the sea | 海边
on the mountain | 山上
in the garden | 花园里
at the market | 市场里
in the village | 村庄里
on the island | 小岛上
in the park | 公园里
in the desert | 沙漠里
at the school | 学校里
in the library | 图书馆里
""")
THINGS = pairs(
    "key 钥匙, lamp 台灯, book 书, ball 球, map 地图, hat 帽子, bell 铃铛, boat 小船, coin 硬币, letter 信, box 盒子,"
    "kite 风筝, drum 鼓, seed 种子, cake 蛋糕, flute 长笛, mirror 镜子, stone 石头, basket 篮子, umbrella 雨伞"
)
HEROES = pairs(
    "fox 狐狸, cat 猫, dog 狗, rabbit 兔子, bear 熊, mouse 老鼠, duck 鸭子, frog 青蛙, owl 猫头鹰, horse 马, boy 男孩,"
    "princess 公主, prince 王子, dragon 龙, wizard 巫师, giant 巨人, knight 骑士, witch 女巫, fairy 仙女, pirate 海盗,"
    "lion 狮子, tiger 老虎, elephant 大象, penguin 企鹅, turtle 乌龟, wolf 狼, teacher 老师, baker 面包师, child 孩子,"
    "girl 女孩, farmer 农民, sailor 水手, king 国王, queen 王后, robot 机器人, panda 熊猫, bird 鸟, monkey 猴子"
)
TRAITS = pairs(
    "little 小小的, brave 勇敢的, clever 聪明的, shy 害羞的, kind 善良的, curious 好奇的, old 年老的, happy 快乐的"
)

# adjectives that say how someone feels about a thing: en | zh
POSITIVE = pairs(
    "wonderful 很棒, great 好极了, delicious 很好吃, beautiful 很美, fantastic 太好了, lovely 很可爱, excellent 非常好,"
    "perfect 很完美, amazing 令人惊喜, pleasant 很舒服"
)
NEGATIVE = pairs(
    "terrible 很糟糕, awful 太差了, boring 很无聊, disgusting 很恶心, horrible 太可怕了, bad 很不好, ugly 很难看,"
    "disappointing 令人失望, broken 坏了, useless 没有用"
)
REVIEWED = pairs(
    "film 电影, meal 饭菜, hotel 酒店, book 书, song 歌曲, phone 手机, party 聚会, trip 旅行, game 游戏, coffee 咖啡,"
    "room 房间, show 节目, weather 天气, service 服务"
)

# characters that any user may write and the tables above may lack
EVERYDAY_CHARACTERS = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家"
    "十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从知使全点实现理明"
    "因由此间业本长把机十民第女想回己外部化性些开重动点高工意问高关相手体被情信总做给名位先问书员机向教话走电"
    "力世界代表正新通内物加气题每次真量声月数儿眼口山水火土木金花草树叶风雨云雪星光色红黄蓝绿白黑春夏秋冬"
    "东西南北左右早晚今明昨吃喝住穿睡听读写画唱跳跑飞爱笑哭怕买卖给送找等帮谢请让叫告诉认识记忘喜欢快乐"
    "助手智能语言训练微调制造创建团队室司型据集配置文件网络系统数字程序代码设计研究科技师傅王李张刘陈杨赵"
    "黄周吴徐孙胡朱林何郭马罗梁宋郑韩唐冯董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范"
    "您哪谁几么吗呢吧啊哦嗯哈每各该某另别再才刚已曾正却虽但若或且并比较最更非常很太极特别完全只仅几乎"
)
# common English words that the tables lack; the string tasks use them
EVERYDAY_WORDS = words(
    "about after again also another any around ask author because become been being between both bring but came can"
    " change choose clear close company could create data describe design develop did does done each enough even ever"
    " every example explain few find follow for found from get gives good great group grow had has have hear her here"
    " high him his home hope how image important improve into just keep kind know large later lead leave less let like"
    " line list little local long look made make many may mean might more most move much must need new next not nothing"
    " now offer often only other our out over own part people person place plan please point possible program project"
    " provide quick really reason right said same say see seem set shall she should show side simple since small some"
    " something sound speak start state still stop such sure system talk team tell than that their them then there these"
    " they thing this those though through today together told too top train training true try turn under until upon"
    " use user very want way well were what when where which while who whole why will with without would write yes yet"
    " you young your studio assistant laboratory garden sprout research engineer software network digital intelligent"
)
